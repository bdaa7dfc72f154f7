# SPDX-License-Identifier: Apache-2.0
"""A bundle with code for a target that it was not compiled for, and how that code runs on this
machine.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.machine import machine_cpu_flags
from gsqc.errors import OptionError, TargetError
from gsqc.targets.cuda import CUDA
from gsqc.targets.cuda.bundle_code import require_nvcc
from gsqc.targets.cuda.driver import CudaDriver
from gsqc.targets.llvm.bundle_code import RUNNER
from gsqc.targets.llvm.cpu import CPU_TARGETS, CpuTarget
from gsqc.targets.retarget import retarget


def open_checked(bundle: Bundle, target: str, folder: Path) -> tuple[Path, list[str] | None]:
    """Compile the bundle's plan for `target` into `folder`.

    The new bundle, and the command that runs its gsqc-step; None if a session of this process can
    run its code. TargetError if the target's code cannot run here; OptionError for a name that is
    no target.
    """
    if target not in (*CPU_TARGETS, CUDA):
        known = ("numpy", *CPU_TARGETS, CUDA, "tosa-reference", "ethos-u85-sim")
        raise OptionError(f"unknown target {target}", f"one of: {', '.join(known)} (gsqc targets)")
    path = folder / f"{target}.gsqc"
    if target == CUDA:
        CudaDriver()
        require_nvcc()
        retarget(bundle, target, path)
        return path, None
    cpu = CPU_TARGETS[target]
    _require_cpu(cpu)
    retarget(bundle, target, path)
    return path, None if cpu.machine == platform.machine() else [*cpu.emulator, str(path / RUNNER)]


def _require_cpu(cpu: CpuTarget) -> None:
    """TargetError unless this machine or its emulator runs code for the CPU."""
    here = cpu.machine == platform.machine()
    missing = [flag for flag in cpu.features if here and flag not in machine_cpu_flags()]
    if missing:
        raise TargetError(
            f"this CPU lacks {', '.join(missing)}", f"check {cpu.name} on a machine that has it"
        )
    if not here and (not cpu.emulator or shutil.which(cpu.emulator[0]) is None):
        raise TargetError(
            f"{cpu.name} code needs a {cpu.machine} machine or its emulator",
            "apt-get install qemu-user, or run gsqc check on such a machine",
        )
