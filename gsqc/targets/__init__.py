# SPDX-License-Identifier: Apache-2.0
"""Targets: what turns recorded ops into code, one folder each. A target can be deleted without touching another."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from gsqc.bundle import machine_cpu_flags
from gsqc.errors import TargetError
from gsqc.ops.registry import OPS, Kind
from gsqc.runtime.cuda_driver import CudaDriver
from gsqc.targets.llvm.cpu import CPU_TARGETS


@dataclass(frozen=True)
class TargetInfo:
    """What `gsqc targets` shows: a sentence, and the CPU flags or the GPU that a machine must have."""

    description: str
    cpu_features: tuple[str, ...] = ()
    gpu: bool = False

    def runs_here(self) -> bool:
        """Whether this machine can run the target's code."""
        if self.gpu:
            try:
                CudaDriver()
            except TargetError:
                return False
        return set(self.cpu_features) <= machine_cpu_flags()


TARGETS = {
    "numpy": TargetInfo("the golden evaluator: every op's own function; slow, for checks"),
    **{
        name: TargetInfo(f"{cpu.triple}, LLVM {cpu.mcpu}, through TVM", cpu.features)
        for name, cpu in CPU_TARGETS.items()
    },
    "cuda": TargetInfo("NVIDIA GPUs, sm_80 and newer, through nvcc", gpu=True),
}

NATIVE = "native"


def resolve_target(name: str) -> str:
    """The target of a name; `native` is the last CPU target of the list that this machine can run."""
    if name != NATIVE:
        return name
    flags = machine_cpu_flags()
    here = [cpu.name for cpu in CPU_TARGETS.values() if cpu.triple.startswith(platform.machine())]
    able = [cpu for cpu in here if set(CPU_TARGETS[cpu].features) <= flags]
    if not able:
        raise TargetError("no target fits this machine's CPU", "name one with --target (gsqc targets)")
    return able[-1]


_LOWERINGS = {
    Kind.ROW: "row program",
    Kind.LAYOUT: "layout program",
    Kind.MATMUL: "matmul kernel",
    Kind.VIEW: "no code",
}
GRAPH_LEVEL = ("linear", "linear_accumulate")
"""Ops that a pass replaces before code is generated."""


def op_support() -> dict[str, dict[str, str]]:
    """For each op, how each target runs it."""
    import gsqc.ops.all  # noqa: F401

    support = {}
    for name, operation in sorted(OPS.items()):
        how = "expanded by a pass" if name in GRAPH_LEVEL else _LOWERINGS[operation.kind]
        support[name] = {target: "evaluated" if target == "numpy" else how for target in TARGETS}
    return support
