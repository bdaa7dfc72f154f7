# SPDX-License-Identifier: Apache-2.0
"""Layout programs on a CPU: one loop nest per result.

A transpose of the last two axes goes by square blocks in registers, where blocks fill the matrix.
Element by element, each load or each store would touch a cache line of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import tirx

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.layout_values import LayoutValues
from gsqc.targets.analysis.ranges import Ranges
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Buffer,
    Expr,
    Stmt,
    const,
    function,
    keep,
    load,
    loop,
    new_buffer,
    new_var,
    store,
)
from gsqc.targets.llvm.operators import Operators
from gsqc.targets.llvm.tables import Tables
from gsqc.targets.llvm.transpose import transpose_block

PARALLEL_ELEMENTS = 1 << 17
"""Elements of a result from which its loop is worth the start of the thread pool."""


class _LayoutWriter(LayoutValues):
    """Values as TIR expressions of one element."""

    def __init__(self, trace: Trace, cpu: CpuTarget) -> None:
        self.trace, self.cpu = trace, cpu
        self.tables = Tables()
        self.operators = Operators(cpu, Ranges(trace.live_nodes()), self.tables)
        self.inputs = [
            new_buffer(f"input{k}", math.prod(n.shape), n.dtype) for k, n in enumerate(trace.inputs)
        ]
        self.outputs = [
            new_buffer(f"output{k}", math.prod(n.shape), n.dtype)
            for k, n in enumerate(trace.outputs)
        ]

    def constant(self, value: int) -> Expr:
        return const(value)

    def divide(self, x: Expr, by: int) -> Expr:
        return tirx.truncdiv(x, const(by))

    def remainder(self, x: Expr, by: int) -> Expr:
        return tirx.truncmod(x, const(by))

    def clamp(self, x: Expr, most: int) -> Expr:
        return tirx.min(tirx.max(x, const(0)), const(most))

    def select(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        return tirx.Select(condition, x, y)

    def load(self, node: Operator, position: Expr) -> Expr:
        return load(self.inputs[node.attributes["index"]], position)

    def apply(self, node: Operator, args: list[Expr]) -> Expr:
        return self.operators.apply(node, args, 1)

    def blocks(self, output: Operator, buffer: Buffer) -> Stmt | None:
        """The transpose of an input's last two axes by square blocks, if the result is one."""
        lead = list(range(len(output.shape) - 2))
        swap = [*lead, len(lead) + 1, len(lead)]
        if output.operator != "transpose" or list(output.attributes["permutation"]) != swap:
            return None
        source = output.args[0]
        # n elements fill a vector register, and the n vectors of a block must fit the registers.
        n = min(16, 4 * self.cpu.lanes // np.dtype(output.dtype).itemsize)
        *_, columns, rows = output.shape
        if source.operator != "input" or rows % n or columns % n:
            return None
        batch, outer, inner = new_var("batch"), new_var("outer"), new_var("inner")
        matrix = batch * const(rows * columns)
        x = self.inputs[source.attributes["index"]]
        start = matrix + inner * const(n * columns) + outer * const(n)
        kept = [keep(f"row{k}", load(x, start + const(k * columns), n)) for k in range(n)]
        vectors, statements = transpose_block([k[0] for k in kept], "block")
        target = matrix + outer * const(n * rows) + inner * const(n)
        stores = [store(buffer, target + const(k * rows), v, n) for k, v in enumerate(vectors)]
        body = loop(inner, rows // n, [*(s for k in kept for s in k[1]), *statements, *stores])
        parallel = math.prod(output.shape) >= PARALLEL_ELEMENTS
        # A job is a strip of n rows of the result, over all of its blocks.
        job, count = new_var("job"), columns // n
        begin = tirx.Bind(batch, tirx.truncdiv(job, const(count)))
        second = tirx.Bind(outer, tirx.truncmod(job, const(count)))
        return loop(
            job, math.prod(output.shape[:-2]) * count, [begin, second, body], parallel=parallel
        )

    def nest(self, output: Operator, buffer: Buffer) -> Stmt:
        """The loops over a result. Threads share the first that has more than one turn."""
        variables = [new_var(f"i{k}") for k in range(len(output.shape))]
        index = [
            v if size > 1 else const(0) for v, size in zip(variables, output.shape, strict=True)
        ]
        # An axis of one element has no loop, and its index is 0 wherever it is read.
        body: Stmt = store(buffer, self.flat(index, output.shape), self.value(output, index))
        outermost = next((k for k, size in enumerate(output.shape) if size > 1), -1)
        parallel = math.prod(output.shape) >= PARALLEL_ELEMENTS
        for k in reversed(range(len(output.shape))):
            if output.shape[k] > 1:
                body = loop(
                    variables[k], output.shape[k], [body], parallel=parallel and k == outermost
                )
        return body


def write_layout_program(symbol: str, trace: Trace, cpu: CpuTarget) -> Any:
    """The kernel of a LAYOUT trace."""
    writer = _LayoutWriter(trace, cpu)
    results = list(zip(trace.outputs, writer.outputs, strict=True))
    nests = [writer.blocks(node, buffer) or writer.nest(node, buffer) for node, buffer in results]
    return function(symbol, [*writer.inputs, *writer.outputs], [*writer.tables.setup, *nests])
