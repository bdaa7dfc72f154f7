# SPDX-License-Identifier: Apache-2.0
"""gsqc check: compares digests between targets, and names the first operator that differs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from gsqc.check.check import CheckResult, run_check
from gsqc.check.golden import Comparison
from gsqc.check.lockstep import Difference
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption, ThreadsOption
from gsqc.limits import MAXIMUM_CHECK_STEPS, MAXIMUM_SEED
from gsqc.option import Option


def check(
    bundle: BundleArgument,
    on: Annotated[
        str,
        Option("Targets to run, as numpy,x86-64,aarch64. native is the best of the bundle's own."),
    ] = "native",
    steps: Annotated[
        int, Option("Steps to run on each target.", minimum=1, maximum=MAXIMUM_CHECK_STEPS)
    ] = 3,
    seed: Annotated[int, Option("Seed of the random batches.", maximum=MAXIMUM_SEED)] = 0,
    threads: ThreadsOption = None,
    golden: Annotated[
        Path | None, Option("Compare every target with the digests in this file.")
    ] = None,
    update: Annotated[bool, Option("Write the digests to the --golden file.")] = False,
    json: JsonOption = False,
) -> int:
    """Run the first steps and compare their digests with those of the compiling machine.

    Several targets are compared with each other too, and --golden FILE compares with a file. The
    exit code is 0 if all targets ran and every digest is equal. It is 1 if not, and 2 for a wrong
    option or file.
    """
    out = Output(json)
    with out.console.status("") as status:
        result = run_check(
            bundle,
            [name.strip() for name in on.split(",")],
            steps,
            seed=seed,
            threads=threads,
            golden=golden,
            update=update,
            progress=lambda text: status.update(text),
        )
    _print(result, steps, out)
    if update and result.written is None:
        out.say(f"{golden} was not written")
    out.emit(asdict(result) | {"passed": result.passed})
    return 0 if result.passed else 1


def _print(result: CheckResult, steps: int, out: Output) -> None:
    for target, digests in result.targets.items():
        out.say(f"{target:12s} " + " ".join(d[:16] for d in digests))
    for target, reason in result.not_run.items():
        out.say(f"{target:12s} not run: {reason}")
    if result.first_difference is not None:
        _print_difference(result.first_difference, out)
    elif len(result.targets) > 1:
        others = ", on those that ran" if result.not_run else ""
        out.say(f"equal after each of {steps} steps{others}")
    for comparison in result.golden:
        _print_comparison(comparison, out)
    if result.written is not None:
        out.say(f"wrote {result.written}")
    elif len(result.targets) == 1 and not result.golden:
        out.say(
            "nothing to compare with: one target ran, and no digests of these steps are known. "
            "Give two targets (--on numpy,native) or a file (--golden FILE)."
        )


def _print_difference(difference: Difference, out: Output) -> None:
    out.say(
        f"step {difference['step']}: {difference['tensor']}[{difference['index']}] is"
        f" {difference['values']}"
    )
    operator = difference["operator"]
    if operator is None:
        return
    kernel = operator.get("kernel", "when the session starts")
    tensor = f"{operator.get('dtype', '')}{operator.get('shape', '')}{operator['index']}"
    out.say(
        f"first operator: {operator.get('op', 'prepare')} ({kernel}) in {operator['function']}: "
        f"{operator['tensor']} {tensor} is {operator['values']}"
    )


def _print_comparison(comparison: Comparison, out: Output) -> None:
    difference = comparison.difference
    if difference is None:
        out.say(f"equal to {comparison.source} after each of {comparison.steps} steps")
        return
    out.say(difference.text(comparison.source))
    if difference.changed in ("machine", "code"):
        out.say("To find the first operator that differs, run gsqc check with --on numpy,native.")
