# SPDX-License-Identifier: Apache-2.0
"""Layout programs on a GPU: a thread per element of a result."""

from __future__ import annotations

import math

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.layout_values import LayoutValues
from gsqc.targets.cuda.expression import ZERO, C, number
from gsqc.targets.cuda.writer import KernelSource, Launch, Tables, kernel_source

THREADS = 256


class _LayoutWriter(LayoutValues):
    """Values as C expressions."""

    def __init__(self) -> None:
        self.tables = Tables()

    def constant(self, value: int) -> C:
        return number(value)

    def divide(self, x: C, by: int) -> C:
        return x.divided(by)

    def remainder(self, x: C, by: int) -> C:
        return x.remainder(by)

    def clamp(self, x: C, most: int) -> C:
        return C(f"min(max({x}, 0), {most})")

    def select(self, condition: C, x: C, y: C) -> C:
        return C(f"({condition} ? {x} : {y})")

    def load(self, node: Operator, position: C) -> C:
        return C(f"input{node.attributes['index']}[{position}]")

    def apply(self, node: Operator, args: list[C]) -> C:
        return self.tables.apply(node, args)

    def loop(self, k: int, output: Operator) -> list[str]:
        """The statements that fill a result."""
        # There are threads enough for the largest result, so the loop makes one turn or none.
        # Neighbouring threads write neighbouring elements, which the memory takes as one access.
        count = math.prod(output.shape)
        step = f"i += {THREADS} * gridDim.x"
        value = self.value(
            output,
            [i if n > 1 else ZERO for i, n in zip(self._index(output), output.shape, strict=True)],
        )
        return [
            f"for (int i = blockIdx.x * {THREADS} + threadIdx.x; i < {count}; {step})",
            f"    output{k}[i] = {value};",
        ]

    def _index(self, output: Operator) -> list[C]:
        """The multi-index of element i. The first axis needs no remainder."""
        index, stride = [], math.prod(output.shape)
        for k, size in enumerate(output.shape):
            stride //= max(size, 1)
            part = C("i").divided(stride)
            index.append(part if k == 0 else part.remainder(size))
        return index


def write_layout_kernel(symbol: str, trace: Trace) -> KernelSource:
    """The kernel of a LAYOUT trace."""
    writer = _LayoutWriter()
    body = [line for k, node in enumerate(trace.outputs) for line in writer.loop(k, node)]
    # All results in one launch: a launch costs more than most of these kernels.
    most = max(math.prod(n.shape) for n in trace.outputs)
    return kernel_source(
        symbol, trace, Launch(max(1, -(-most // THREADS)), THREADS), body, writer.tables
    )
