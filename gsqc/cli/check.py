# SPDX-License-Identifier: Apache-2.0
"""gsqc check: the same digests on every target, or the first operator and tensor that differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from gsqc.check.check import CheckResult, run_check
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption, ThreadsOption
from gsqc.option import Option


def check(
    bundle: BundleArgument,
    on: Annotated[
        str, Option("Targets, as numpy,x86-64,aarch64. native is the bundle's own.")
    ] = "numpy,native",
    steps: Annotated[int, Option("Steps to run on each target.", minimum=1)] = 3,
    seed: Annotated[int, Option("Seed of the random batches.")] = 0,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> int:
    """Run the same steps on several targets and compare the digests of their states.

    The exit code is 1 unless all targets ran and are equal.
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
            f"step {difference['step']}: {difference['tensor']}[{difference['index']}] "
            f"is {difference['values']}"
        )
        operator = difference["operator"]
        if operator is not None:
            kernel = operator.get("kernel", "when the session starts")
            shape = f"{operator.get('dtype', '')}{operator.get('shape', '')}"
            out.say(
                f"first operator: {operator.get('op', 'prepare')} ({kernel}) in "
                f"{operator['function']}: {operator['tensor']} {shape}{operator['index']} "
                f"is {operator['values']}"
            )
    elif len(result.targets) < 2:
        out.say("fewer than two targets ran: nothing to compare")
    else:
        out.say(
            f"equal after each of {steps} steps" + (", on those that ran" if result.not_run else "")
        )
