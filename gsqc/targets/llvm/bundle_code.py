# SPDX-License-Identifier: Apache-2.0
"""The part of a bundle that runs on a CPU: the kernels, and gsqc-step to call them without Python."""

from __future__ import annotations

import platform
from typing import Any

from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.targets.kernels import plan_kernels
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.runner import build_runner

RUNNER = "bin/gsqc-step"


def add_cpu_code(
    bundle: BundleWriter, plan: Plan, cpu: CpuTarget, *, runner: bool = False
) -> dict[str, Any]:
    """Add code for `cpu` and what runs it; returns the manifest's fields that say so.

    Code for another kind of machine than this one comes with gsqc-step, which runs it under an
    emulator, too.
    """
    code = compile_kernels(plan_kernels(plan), cpu)
    bundle.add_bytes("code/kernels.so", code.library)
    if runner or cpu.machine != platform.machine():
        bundle.add_bytes(RUNNER, build_runner(cpu), mode=0o755)
    target = TargetPart(cpu.name, cpu.triple, tuple(cpu.features))
    return {"target": target, "code_bytes": code.code_bytes}
