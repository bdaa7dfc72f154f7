# SPDX-License-Identifier: Apache-2.0
"""What a command stream consists of: its operations counted by kind, for `gsqc inspect`."""

from __future__ import annotations

from collections import Counter

from gsqc.targets.arm_npu.u85.operation import Convolution, Dma, Elementwise, Operation, Pool
from gsqc.targets.arm_npu.u85.registers import Lookup, PoolMode
from gsqc.targets.arm_npu.u85.run import Compiled

MATMUL, REDUCTION, ELEMENTWISE, MOVEMENT = "matmul", "reduction", "element-wise", "data movement"
KINDS = (MATMUL, REDUCTION, ELEMENTWISE, MOVEMENT)


def kind_of(operation: Operation) -> tuple[str, str]:
    """The kind of an operation, and its name.

    A pool of one element moves data (a copy, a transpose), unless it looks its value up in a table
    or scales it.
    """
    if isinstance(operation, Convolution):
        return MATMUL, "CONV"
    if isinstance(operation, Dma):
        return MOVEMENT, "DMA"
    if isinstance(operation, Elementwise):
        return ELEMENTWISE, operation.mode.name
    return _kind_of_pool(operation)


def _kind_of_pool(pool: Pool) -> tuple[str, str]:
    if pool.mode == PoolMode.REDUCE_SUM or pool.kernel.height * pool.kernel.width > 1:
        return REDUCTION, pool.mode.name
    if pool.output.lookup != Lookup.NONE:
        return ELEMENTWISE, "TABLE"
    # A scale of one is what Vela gives a copy.
    scale = pool.output.scale
    if scale.per_channel or (scale.factor, scale.shift) != (1, 0):
        return ELEMENTWISE, "RESCALE"
    return MOVEMENT, "COPY"


def count_operations(compiled: Compiled) -> dict[str, dict[str, int]]:
    """For each kind, how often each of its operations occurs. The order is fixed."""
    counts = Counter(kind_of(operation) for operation in compiled.operations())
    return {
        kind: {name: n for (k, name), n in sorted(counts.items()) if k == kind} for kind in KINDS
    }
