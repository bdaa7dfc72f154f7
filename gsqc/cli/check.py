# SPDX-License-Identifier: Apache-2.0
"""gsqc check: the same digests on every target, or the first tensor that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsqc.cli.output import JsonOption, Output
from gsqc.runtime.check import run_check


def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    on: Annotated[str, typer.Option(help="Targets, as numpy,x86-64; native is the bundle's own.")] = "numpy,native",
    steps: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the random batches.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    json: JsonOption = False,
) -> int:
    """Run the same steps on each target and compare the state's digests. Exits with 1 if they differ."""
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
    for target, digests in result.targets.items():
        out.say(f"{target:10s} " + " ".join(d[:16] for d in digests))
    if result.equal is None:
        out.say("one target: nothing to compare it with")
    elif result.first_difference is None:
        out.say(f"equal after each of {steps} steps")
    else:
        d = result.first_difference
        out.say(f"step {d['step']}: {d['tensor']}[{d['index']}] is {d['values']}")
    out.emit({"equal": result.equal, "targets": result.targets, "first_difference": result.first_difference})
    return 1 if result.equal is False else 0
