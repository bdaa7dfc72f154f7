# SPDX-License-Identifier: Apache-2.0
"""Targets: what turns recorded ops into code, one folder each. A target can be deleted without
touching another.
"""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass

from gsqc.bundle.machine import machine_cpu_flags
from gsqc.errors import TargetError
from gsqc.numerics.ops.registry import OPS, Kind
from gsqc.targets.arm_npu.accelerators import TARGET as NPU
from gsqc.targets.arm_npu.accelerators import TRAINS, parse_accelerator, target_name
from gsqc.targets.cuda import CUDA
from gsqc.targets.cuda.driver import CudaDriver
from gsqc.targets.llvm.cpu import CPU_TARGETS


@dataclass(frozen=True)
class TargetInfo:
    """What `gsqc targets` shows: a sentence, the CPU flags, Python modules or GPU that a machine
    must have to run it, and whether a machine like this one can run it at all.
    """

    description: str
    cpu_features: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    gpu: bool = False
    on_host: bool = True

    def runs_here(self) -> bool:
        """Whether this machine can run the target's code."""
        if self.gpu:
            try:
                CudaDriver()
            except TargetError:
                return False
        found = all(importlib.util.find_spec(module) is not None for module in self.modules)
        return self.on_host and found and set(self.cpu_features) <= machine_cpu_flags()


TARGETS = {
    "numpy": TargetInfo("the golden evaluator: every op's own function; slow, for checks"),
    **{
        name: TargetInfo(f"{cpu.triple}, LLVM {cpu.mcpu}, through TVM", cpu.features)
        for name, cpu in CPU_TARGETS.items()
    },
    CUDA: TargetInfo("NVIDIA GPUs, sm_80 and newer, through nvcc", gpu=True),
    NPU: TargetInfo(
        f"Arm Ethos-U85 through TOSA and Vela: {', '.join(map(target_name, TRAINS))}", on_host=False
    ),
    "tosa-reference": TargetInfo(
        "Arm's TOSA reference model, for checks", modules=("tosa_reference_model",)
    ),
    "ethos-u85-sim": TargetInfo(
        "an interpreter of the NPU's command streams, for checks", modules=("ethosu",)
    ),
}

NATIVE = "native"


def resolve_target(name: str) -> str:
    """The target of a name; `native` is the last CPU target of the list that this machine can run,
    `arm-npu` the default accelerator. Raises TargetError.
    """
    if name.partition(":")[0] == NPU:
        return target_name(parse_accelerator(name))
    if name != NATIVE:
        return name
    flags = machine_cpu_flags()
    here = [cpu.name for cpu in CPU_TARGETS.values() if cpu.triple.startswith(platform.machine())]
    able = [cpu for cpu in here if set(CPU_TARGETS[cpu].features) <= flags]
    if not able:
        raise TargetError(
            "no target fits this machine's CPU", "name one with --target (gsqc targets)"
        )
    return able[-1]


_LOWERINGS = {
    Kind.ROW: "row program",
    Kind.LAYOUT: "layout program",
    Kind.MATMUL: "matmul kernel",
    Kind.VIEW: "no code",
    Kind.GRAPH: "expanded by a pass",
}


def op_support() -> dict[str, dict[str, str]]:
    """For each op, how each target runs it."""
    import gsqc.numerics.ops.all  # noqa: F401

    support = {}
    for name, operation in sorted(OPS.items()):
        for_kernels, for_npu = _LOWERINGS[operation.kind], "TOSA operators"
        if operation.kind is Kind.GRAPH:
            for_npu = for_kernels
        how = {"numpy": "evaluated", **dict.fromkeys((*CPU_TARGETS, CUDA), for_kernels)}
        support[name] = {target: how.get(target, for_npu) for target in TARGETS}
    return support
