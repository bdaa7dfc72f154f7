# SPDX-License-Identifier: Apache-2.0
"""Prepares a check on another target: the bundle gets that target's code, and gsqc finds out how to
run it on this machine.
"""

from __future__ import annotations

from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.targets.interface import Target
from gsqc.targets.retarget import retarget


def open_checked(bundle: Bundle, target: Target, folder: Path) -> tuple[Path, list[str] | None]:
    """Compile the bundle's plan for `target` into `folder`.

    Gives the new bundle, and the command that runs its gsqc-step, None if a session of this process
    can run its code. TargetError if the target's code cannot run here, or cannot be made.
    """
    path = folder / f"{target.name}.gsqc"
    # Before anything is compiled: making code for a machine that is not there takes as long.
    command = target.runner_command(path)
    target.require()
    retarget(bundle, target, path)
    return path, command
