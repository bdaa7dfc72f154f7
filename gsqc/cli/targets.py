# SPDX-License-Identifier: Apache-2.0
"""gsqc targets: where a step can run."""

from __future__ import annotations

from typing import Annotated

import typer

from gsqc.cli.output import JsonOption, Output


def targets(
    ops: Annotated[
        bool, typer.Option("--ops", help="List the ops and how each target lowers them.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the targets, and whether this machine can run them."""
    from gsqc.targets import TARGETS, op_support

    out = Output(json)
    for name, target in TARGETS.items():
        runs_here = target.runs_here()
        out.say(f"{name:15s} {target.description}{'' if runs_here else '  (not on this machine)'}")
        out.emit({"target": name, "description": target.description, "runs_here": runs_here})
    if ops:
        for name, support in op_support().items():
            out.say(f"{name:30s} " + "  ".join(f"{t}: {how}" for t, how in support.items()))
            out.emit({"op": name, **support})
