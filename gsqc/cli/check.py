# SPDX-License-Identifier: Apache-2.0
"""gsqc check: the same digests on every target, or the first operator and tensor that differ."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gsqc.check.check import CheckResult, run_check
from gsqc.cli.output import JsonOption, Output


def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    on: Annotated[
        str, typer.Option(help="Targets, as numpy,x86-64,aarch64; native is the bundle's own.")
    ] = "numpy,native",
    steps: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the random batches.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    json: JsonOption = False,
) -> int:
    """Run the same steps on each target and compare the state's digests. Exits with 1 unless all
    ran and are equal.
    """
    out = Output(json)
    with out.console.status("") as status:
        result = run_check(
            bundle,
            [name.strip() for name in on.split(",")],
            steps,
            seed=seed,
            threads=threads,
            progress=lambda text: status.update(text),
        )
    _print(result, steps, out)
    out.emit(asdict(result))
    return 1 if result.equal is False or result.not_run else 0


def _print(result: CheckResult, steps: int, out: Output) -> None:
    for target, digests in result.targets.items():
        out.say(f"{target:12s} " + " ".join(d[:16] for d in digests))
    for target, reason in result.not_run.items():
        out.say(f"{target:12s} not run: {reason}")
    difference = result.first_difference
    if difference is not None:
        out.say(
            f"step {difference['step']}: {difference['tensor']}[{difference['index']}] is {difference['values']}"
        )
        operator = difference["operator"]
        if operator is not None:
            op = f"{operator.get('op', 'prepare')} ({operator.get('kernel', 'when the session starts')})"
            where = f"{operator['tensor']} {operator.get('dtype', '')}{operator.get('shape', '')}{operator['index']}"
            out.say(
                f"first operator: {op} in {operator['function']}: {where} is {operator['values']}"
            )
    elif len(result.targets) < 2:
        out.say("fewer than two targets ran: nothing to compare")
    else:
        out.say(
            f"equal after each of {steps} steps" + (", on those that ran" if result.not_run else "")
        )
