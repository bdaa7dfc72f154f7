# SPDX-License-Identifier: Apache-2.0
"""The part of a bundle that runs on a CPU: the kernels, and TVM's runtime or gsqc-step to call them."""

from __future__ import annotations

import platform
from typing import Any

from gsqc.bundle import BundleWriter
from gsqc.plan import Plan
from gsqc.targets.kernels import plan_kernels
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.library import runtime_library_path
from gsqc.targets.llvm.runner import build_runner

RUNNER = "bin/gsqc-step"


def add_cpu_code(bundle: BundleWriter, plan: Plan, cpu: CpuTarget, *, runner: bool = False) -> dict[str, Any]:
    """Add code for `cpu` and what runs it; returns the manifest's fields that say so.

    TVM's runtime library, for Python, is that of this machine; on another kind of machine gsqc-step runs the bundle.
    """
    code = compile_kernels(plan_kernels(plan), cpu)
    bundle.add_bytes("code/kernels.so", code.library)
    here = cpu.machine == platform.machine()
    if here:
        bundle.add_file("lib/libtvm_runtime.so", runtime_library_path())
    if runner or not here:
        bundle.add_bytes(RUNNER, build_runner(cpu), mode=0o755)
    target = {"name": cpu.name, "triple": cpu.triple, "cpu_features": list(cpu.features)}
    return {"target": target, "code_bytes": code.code_bytes}
