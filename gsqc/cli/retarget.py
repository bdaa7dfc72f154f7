# SPDX-License-Identifier: Apache-2.0
"""gsqc retarget: code for another target in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.compile import TARGET_OPTIONS
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.option import Option
from gsqc.targets.registry import NATIVE, check_target_options, find_target
from gsqc.targets.retarget import Retargeting, retarget


def retarget_command(
    bundle: Annotated[
        Path,
        Option(
            "A bundle for any target, by anyone: its code is not run.",
            is_argument=True,
            example="model.gsqc",
        ),
    ],
    *,
    target: Annotated[
        str, Option("The target to make code for, as gsqc compile takes it.")
    ] = NATIVE,
    output: Annotated[
        Path | None,
        Option(
            "The bundle to write. Without it, BUNDLE itself gets the code.",
            flag="--output",
            short="-o",
        ),
    ] = None,
    only: Annotated[
        bool, Option("Keep no other code: for a bundle whose author you do not know.")
    ] = False,
    runner: Annotated[bool, Option("Add gsqc-step, which trains without Python.")] = False,
    force: Annotated[bool, Option("Overwrite the bundle that -o names.")] = False,
    of_target: Annotated[dict[str, Any], OptionsOf(*TARGET_OPTIONS)],
    json: JsonOption = False,
) -> None:
    """Add code for another target to BUNDLE, made from its plan.

    Weights, initial state and digests stay, so runs go on with the code of any target.
    """
    out = Output(json)
    chosen = find_target(target)
    given = {name: value for name, value in of_target.items() if value is not None}
    check_target_options(target, given)
    chosen.require(runner=runner)
    opened = Bundle.open(bundle)
    if chosen.name in opened.manifest.targets:
        out.say(f"{bundle} has code for {chosen.name} already: it is made anew")
    place = output or bundle
    with out.console.status("") as status:
        how = Retargeting(
            only, force or output is None, runner, given, lambda text: status.update(text)
        )
        retarget(opened, chosen, place, how)
    kept = [] if only else [name for name in opened.manifest.targets if name != chosen.name]
    beside = f" beside {', '.join(kept)}" if kept else ""
    out.say(f"wrote {place} with code for {chosen.name}{beside}")
    out.emit({"bundle": str(place), "target": chosen.name, "kept": kept})
