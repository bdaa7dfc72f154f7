# SPDX-License-Identifier: Apache-2.0
"""gsqc targets: where a step can run."""

from __future__ import annotations

from typing import Annotated

import typer

from gsqc.cli.output import JsonOption, Output


def targets(
    ops: Annotated[
        bool,
        typer.Option("--ops", help="Lower every op on every target, and list what is missing."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the targets, and whether this machine can run them."""
    from gsqc.targets.registry import all_targets
    from gsqc.targets.support import op_support

    out = Output(json)
    refusals = {target.name: target.refusal(target.entry()) for target in all_targets()}
    # What runs here comes first.
    for target in sorted(all_targets(), key=lambda t: refusals[t.name] is not None):
        error = refusals[target.name]
        out.say(
            f"{target.name:15s} {target.description}{'  (not on this machine)' if error else ''}"
        )
        out.emit(
            {
                "target": target.name,
                "description": target.description,
                "runs_here": error is None,
                "reason": None if error is None else str(error),
            }
        )
    if ops:
        for name, support in op_support(all_targets()).items():
            out.say(f"{name:30s} " + "  ".join(f"{t}: {how}" for t, how in support.items()))
            out.emit({"op": name, **support})
