# SPDX-License-Identifier: Apache-2.0
"""A bundle with code for a target that it was not compiled for, and how that code runs on this machine."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from gsqc.bundle import Bundle, machine_cpu_flags
from gsqc.errors import OptionError, TargetError
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.retarget import RUNNER, retarget


def open_checked(bundle: Bundle, target: str, folder: Path) -> tuple[Path, list[str] | None]:
    """Compile the bundle's plan for `target` into `folder`.

    The new bundle, and the command that runs its gsqc-step; None if a session of this process can run its code.
    TargetError if the target's code cannot run here; OptionError for a name that is no target.
    """
    if target not in CPU_TARGETS:
        raise OptionError(
            f"unknown target {target}",
            f"one of: numpy, {', '.join(CPU_TARGETS)}, tosa-reference, ethos-u85-sim (gsqc targets)",
        )
    cpu = CPU_TARGETS[target]
    here = cpu.machine == platform.machine()
    missing = [flag for flag in cpu.features if here and flag not in machine_cpu_flags()]
    if missing:
        raise TargetError(f"this CPU lacks {', '.join(missing)}", f"check {target} on a machine that has it")
    if not here and (not cpu.emulator or shutil.which(cpu.emulator[0]) is None):
        raise TargetError(
            f"{target} code needs a {cpu.machine} machine or its emulator",
            "apt-get install qemu-user, or run gsqc check on such a machine",
        )
    path = folder / f"{target}.gsqc"
    retarget(bundle, cpu, path)
    return path, None if here else [*cpu.emulator, str(path / RUNNER)]
