# SPDX-License-Identifier: Apache-2.0
"""What a step would cost with plain int8 matmuls in place of the group-scaled ones, by Vela's
estimate.
"""

from __future__ import annotations

import math
from typing import Any

from gsqc.bundle.plan import KernelPlan, Plan
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.estimate import call_counts
from gsqc.targets.arm_npu.vela import run_vela
from gsqc.targets.tosa.tosa_file import TosaFile

Sizes = tuple[int, int, int, int]
"""Batch, rows, columns and length of the sums of a matmul."""


def _sizes(kernel: KernelPlan) -> Sizes:
    (x, w), _ = kernel.call()
    *batch, rows, k = x.shape
    return math.prod(batch), rows, w.shape[-2], k


def plain_int8_matmul(sizes: Sizes) -> bytes:
    """A TOSA program that is one MATMUL of int8 [N, M, K] and int8 [N, K, C].

    M is the larger of rows and columns, as in the serialiser: Vela moves the second operand.
    """
    # Nothing is stored, only counted, so the operands may change places without a transpose.
    batch, columns, rows, k = (sizes[0], *sorted(sizes[1:3]), sizes[3])
    writer = TosaFile()
    operands = []
    for name, shape in (("x", (batch, rows, k)), ("w", (batch, k, columns))):
        writer.file.addInputTensor(
            writer.ts.TosaSerializerTensor(name, list(shape), writer.dtype("int8"))
        )
        operands.append((name, shape, "int8"))
    zero = writer.constant([0], (1,), "int8")
    result = writer.emit(
        "MATMUL", "MatMul", [*operands, zero, zero], (batch, rows, columns), "int32"
    )
    writer.file.currRegion.currBasicBlock.addOutput(result[0])
    return bytes(writer.file.serialize())


def plain_int8_cycles(plan: Plan, options: NpuOptions) -> int:
    """The cycles of a step's matmuls if they were plain int8 ones. Raises TargetError."""
    cycles: dict[Sizes, int] = {}
    total = 0
    for name, calls in call_counts(plan).items():
        for kernel in (
            (plan.kernels[k] for k, _ in plan.functions[name].calls)
            if name in plan.functions
            else ()
        ):
            if kernel.op != "gse_matmul":
                continue
            sizes = _sizes(kernel)
            # Most of a step's matmuls are of a few sizes, and a run of Vela takes seconds.
            if sizes not in cycles:
                summary: dict[str, Any] = run_vela(
                    "matmul", plain_int8_matmul(sizes), options
                ).summary
                cycles[sizes] = int(summary["cycles_total"])
            total += calls * cycles[sizes]
    return total
