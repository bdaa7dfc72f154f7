# SPDX-License-Identifier: Apache-2.0
"""The part of a bundle that runs on a CPU: the kernels, and gsqc-step, which runs them without
Python.
"""

from __future__ import annotations

from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.targets.kernels import plan_kernels
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.runner import build_runner


def add_kernels(bundle: BundleWriter, name: str, plan: Plan, cpu: CpuTarget) -> int:
    """Add the kernels' library, and return the size of its code."""
    code = compile_kernels(plan_kernels(plan), cpu)
    bundle.add_bytes(name, code.library)
    return code.code_bytes


def add_runner(bundle: BundleWriter, name: str, cpu: CpuTarget) -> None:
    """Add gsqc-step, built for the CPU."""
    bundle.add_bytes(name, build_runner(cpu), mode=0o755)
