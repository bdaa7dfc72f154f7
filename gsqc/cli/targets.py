# SPDX-License-Identifier: Apache-2.0
"""gsqc targets: lists the targets that a step can run on."""

from __future__ import annotations

from typing import Annotated, Any

from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.option import Option


def target_records() -> list[dict[str, Any]]:
    """Each target with its description, whether this machine can run it, and if not, why."""
    from gsqc.targets.registry import all_targets

    refusals = {target: target.refusal(target.entry()) for target in all_targets()}
    records = [
        {
            "target": target.name,
            "description": target.description,
            "runs_here": error is None,
            "reason": None if error is None else str(error),
        }
        for target, error in refusals.items()
    ]
    # Targets that this machine can run come first.
    return sorted(records, key=lambda record: not record["runs_here"])


def targets(
    ops: Annotated[
        bool, Option("Lower every op for every target, and list what is missing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the targets, and say which of them this machine can run."""
    from gsqc.targets.registry import all_targets
    from gsqc.targets.support import op_support

    out = Output(json)
    for record in target_records():
        note = "" if record["runs_here"] else "  (not on this machine)"
        out.say(f"{record['target']:15s} {record['description']}{note}")
        out.emit(record)
    if ops:
        for name, support in op_support(all_targets()).items():
            out.say(f"{name:30s} " + "  ".join(f"{t}: {how}" for t, how in support.items()))
            out.emit({"op": name, **support})
