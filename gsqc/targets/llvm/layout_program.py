# SPDX-License-Identifier: Apache-2.0
"""Layout programs: an op without reductions becomes one loop nest per result, its index maps folded into the loads.

A transpose of the last two axes goes by square blocks in registers, where blocks fill the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx

from gsqc.operators.trace import Node, Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import Buffer, Expr, Stmt, const, function, keep, load, loop, new_buffer, new_var, store
from gsqc.targets.llvm.operators import Operators
from gsqc.targets.llvm.ranges import Ranges
from gsqc.targets.llvm.tables import Tables
from gsqc.targets.llvm.transpose import transpose_block

PARALLEL_ELEMENTS = 1 << 17
"""Elements of a result from which its loop is worth the start of the thread pool."""

Index = Sequence[Expr]


def _flat(index: Index, shape: Sequence[int]) -> Expr:
    """The position of a multi-index in row-major order."""
    position: Expr = const(0)
    for i, size in zip(index, shape, strict=True):
        position = position * const(size) + i if size > 1 else position
    return position


def _unflatten(position: Expr, shape: Sequence[int]) -> list[Expr]:
    index = []
    stride = math.prod(shape)
    for size in shape:
        stride //= size
        index.append(tirx.truncmod(tirx.truncdiv(position, const(stride)), const(size)) if size > 1 else const(0))
    return index


def _reshaped(index: Index, shape: Sequence[int], source: Sequence[int]) -> list[Expr]:
    """The source's index; leading dimensions that both share need no division."""
    same = 0
    while same < min(len(shape), len(source)) and shape[same] == source[same]:
        same += 1
    return [*index[:same], *_unflatten(_flat(index[same:], shape[same:]), source[same:])]


class _LayoutWriter:
    def __init__(self, trace: Trace, cpu: CpuTarget) -> None:
        self.trace, self.cpu = trace, cpu
        self.tables = Tables()
        dead = [n for n in trace.inputs if n not in trace.live_nodes()]
        self.operators = Operators(cpu, Ranges(trace.live_nodes() + dead), self.tables)
        self.inputs = [new_buffer(f"input{k}", math.prod(n.shape), n.dtype) for k, n in enumerate(trace.inputs)]
        self.outputs = [new_buffer(f"output{k}", math.prod(n.shape), n.dtype) for k, n in enumerate(trace.outputs)]

    def value(self, node: Node, index: Index) -> Expr:
        """One element of a node."""
        rule = getattr(self, f"_{node.operator}", None)
        if rule is not None:
            return rule(node, index)
        args = [self.value(a, self._broadcast(index, a)) for a in node.args]
        return self.operators.apply(node, args, 1)

    @staticmethod
    def _broadcast(index: Index, source: Node) -> Index:
        return [const(0) if size == 1 else i for i, size in zip(index, source.shape, strict=True)]

    def _input(self, node: Node, index: Index) -> Expr:
        return load(self.inputs[node.attributes["index"]], _flat(index, node.shape))

    def _const(self, node: Node, index: Index) -> Expr:
        return const(node.attributes["value"])

    def _iota(self, node: Node, index: Index) -> Expr:
        return index[node.attributes["axis"]]

    def _reshape(self, node: Node, index: Index) -> Expr:
        source = node.args[0]
        return self.value(source, _reshaped(index, node.shape, source.shape))

    def _transpose(self, node: Node, index: Index) -> Expr:
        permutation = node.attributes["permutation"]
        return self.value(node.args[0], [index[permutation.index(k)] for k in range(len(permutation))])

    def _slice(self, node: Node, index: Index) -> Expr:
        start = node.attributes["start"]
        return self.value(node.args[0], [i + const(s) if s else i for i, s in zip(index, start, strict=True)])

    def _concat(self, node: Node, index: Index) -> Expr:
        """A choice by position; each part's index is kept inside the part."""
        axis, end = node.attributes["axis"], node.shape[node.attributes["axis"]]
        result = None
        for part in reversed(node.args):
            end -= part.shape[axis]
            inside = tirx.min(tirx.max(index[axis] - const(end), const(0)), const(part.shape[axis] - 1))
            value = self.value(part, [*index[:axis], inside, *index[axis + 1 :]])
            result = (
                value if result is None else tirx.Select(index[axis] < const(end + part.shape[axis]), value, result)
            )
        return result

    def _gather(self, node: Node, index: Index) -> Expr:
        values, indices = node.args
        return self.value(values, [self.value(indices, index[:1]), *index[1:]])

    def blocks(self, output: Node, buffer: Buffer) -> Stmt | None:
        """The transpose of an input's last two axes by square blocks; None if the result is something else."""
        lead = list(range(len(output.shape) - 2))
        swap = [*lead, len(lead) + 1, len(lead)]
        if output.operator != "transpose" or list(output.attributes["permutation"]) != swap:
            return None
        source = output.args[0]
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
        job, count = new_var("job"), columns // n
        begin = tirx.Bind(batch, tirx.truncdiv(job, const(count)))
        second = tirx.Bind(outer, tirx.truncmod(job, const(count)))
        return loop(job, math.prod(output.shape[:-2]) * count, [begin, second, body], parallel=parallel)

    def nest(self, output: Node, buffer: Buffer) -> Stmt:
        """The loops over a result; the first that has more than one turn is shared by the threads."""
        variables = [new_var(f"i{k}") for k in range(len(output.shape))]
        index = [v if size > 1 else const(0) for v, size in zip(variables, output.shape, strict=True)]
        body: Stmt = store(buffer, _flat(index, output.shape), self.value(output, index))
        outermost = next((k for k, size in enumerate(output.shape) if size > 1), -1)
        parallel = math.prod(output.shape) >= PARALLEL_ELEMENTS
        for k in reversed(range(len(output.shape))):
            if output.shape[k] > 1:
                body = loop(variables[k], output.shape[k], [body], parallel=parallel and k == outermost)
        return body


def write_layout_program(symbol: str, trace: Trace, cpu: CpuTarget) -> tuple[Any, Tables]:
    """The kernel of a LAYOUT trace, and the tables that it reads."""
    writer = _LayoutWriter(trace, cpu)
    results = list(zip(trace.outputs, writer.outputs, strict=True))
    nests = [writer.blocks(node, buffer) or writer.nest(node, buffer) for node, buffer in results]
    return function(symbol, [*writer.inputs, *writer.outputs], [*writer.tables.setup, *nests]), writer.tables
