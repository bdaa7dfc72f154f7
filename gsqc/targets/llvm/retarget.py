# SPDX-License-Identifier: Apache-2.0
"""The code of a bundle from its plan alone: for the target it is compiled for, or for another one later.

The plan holds each kernel's op, shapes and attributes, so the same plan, weights and state get code for another CPU,
and what that code computes is the same integers.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import gsqc.ops.all  # noqa: F401  registers every op
from gsqc.bundle import Bundle, BundleWriter
from gsqc.formats import Gse
from gsqc.ops.registry import OPS, trace
from gsqc.plan import KernelPlan, Plan
from gsqc.targets.llvm.compile import Kernel, compile_kernels
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.runner import build_runner

RUNNER = "bin/gsqc-step"
_WRITTEN_ANEW = ("files", "format_version", "gsqc_version")


def _kernel(name: str, plan: KernelPlan) -> Kernel:
    operation = OPS[plan.op]
    values, attributes = plan.call()
    recorded, _ = trace(operation, values, attributes)
    bits = [v.bits for v in values if isinstance(v, Gse)]
    extra = {"x_bits": bits[0], "w_bits": bits[1]} if len(bits) == 2 else {}
    return Kernel(name, operation.kind, recorded, {**attributes, **extra})


def plan_kernels(plan: Plan) -> list[Kernel]:
    """The kernels of a plan, ready to be compiled."""
    return [_kernel(name, kernel) for name, kernel in plan.kernels.items()]


def add_code(bundle: BundleWriter, plan: Plan, cpu: CpuTarget, *, runner: bool = False) -> dict[str, Any]:
    """Add code for `cpu` and what runs it; returns the manifest's fields that say so.

    Code for another kind of machine than this one comes with gsqc-step, which runs it under an emulator, too.
    """
    code = compile_kernels(plan_kernels(plan), cpu)
    bundle.add_bytes("code/kernels.so", code.library)
    if runner or cpu.machine != platform.machine():
        bundle.add_bytes(RUNNER, build_runner(cpu), mode=0o755)
    target = {"name": cpu.name, "triple": cpu.triple, "cpu_features": list(cpu.features)}
    return {"target": target, "code_bytes": code.code_bytes}


def retarget(bundle: Bundle, cpu: CpuTarget, output: Path) -> None:
    """Write `bundle` again with code for another CPU. Raises BundleError, TargetError."""
    with BundleWriter(output) as writer:
        for name in ("base.safetensors", "state.safetensors", "tokenizer.json"):
            if name in bundle.files:
                writer.add_file(name, bundle.files[name])
        manifest = {name: value for name, value in bundle.manifest.items() if name not in _WRITTEN_ANEW}
        manifest |= add_code(writer, bundle.plan, cpu)
        writer.finish({**manifest, "plan": bundle.plan.to_json()})
