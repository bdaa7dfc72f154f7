# SPDX-License-Identifier: Apache-2.0
"""gsqc targets: where a step can run."""

from __future__ import annotations

from typing import Annotated, Any

from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.option import Option


def target_records() -> list[dict[str, Any]]:
    """Each target with its description, and whether this machine can run it."""
    from gsqc.targets import TARGETS

    return [
        {"target": name, "description": target.description, "runs_here": target.runs_here()}
        for name, target in TARGETS.items()
    ]


def targets(
    ops: Annotated[bool, Option("List the ops, and how each target lowers them.")] = False,
    json: JsonOption = False,
) -> None:
    """List the targets, and say which of them this machine can run."""
    from gsqc.targets import op_support

    out = Output(json)
    for record in target_records():
        note = "" if record["runs_here"] else "  (not on this machine)"
        out.say(f"{record['target']:15s} {record['description']}{note}")
        out.emit(record)
    if ops:
        for name, support in op_support().items():
            out.say(f"{name:30s} " + "  ".join(f"{t}: {how}" for t, how in support.items()))
            out.emit({"op": name, **support})
