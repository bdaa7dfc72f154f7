# SPDX-License-Identifier: Apache-2.0
"""The exact matmul, hand-scheduled: a group's dot in int32, shifted by both exponents, summed in int64.

A job is a block of columns of the result and a chunk of its rows. It packs its part of w once, then takes tiles of
rows; x stays where it is.

    for each group:  d[i, j] = Σ over the group of x[i] · w[j]                  int32, exact; see group_dots.py
                     acc[i, j] += int64(d) << (shift of x's group + shift of w's group)
    C32 = (acc + 2^(s-1)) >> s
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gsqc.formats import GROUP
from gsqc.operators.trace import Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    function,
    load,
    loop,
    new_buffer,
    new_var,
    sequence,
    splat,
    splat_const,
    store,
    when,
)
from gsqc.targets.llvm.group_dots import Geometry, group_dots

PARALLEL_PRODUCTS = 1 << 19
"""Multiply-adds from which a kernel is worth the start of the thread pool."""


@dataclass(frozen=True)
class _Shape:
    """x [batch, m, k], w [batch, c, k]; jobs are blocks of columns and chunks of rows."""

    batch: int
    m: int
    c: int
    k: int
    geometry: Geometry

    @property
    def groups(self) -> int:
        return self.k // GROUP

    @property
    def tiles(self) -> int:
        return -(-self.m // self.geometry.rows)

    @property
    def blocks(self) -> int:
        return -(-self.c // self.geometry.columns)

    @property
    def chunks(self) -> int:
        """Row chunks per column block: more than one only where columns alone give too little to share."""
        return 1 if self.batch * self.blocks >= 8 else min(self.tiles, 8)

    @property
    def parallel(self) -> bool:
        return self.batch * self.m * self.c * self.k >= PARALLEL_PRODUCTS


class _MatmulWriter:
    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        self.symbol, self.dots = symbol, group_dots(cpu)
        g = self.geometry = self.dots.geometry
        x, w = trace.inputs[0].shape, trace.inputs[3].shape
        self.shape = _Shape(x[0] if len(x) == 3 else 1, x[-2], w[-2], x[-1], g)
        self.window_x, self.window_w = 16 - x_bits, 16 - w_bits
        self.shift = next(n.attributes["shift"] for n in trace.nodes if n.operator == "matmul")
        names = ("x_m", "x_d", "x_e", "w_m", "w_d", "w_e", "c")
        nodes = [*trace.inputs, *trace.outputs]
        self.buffers = {
            name: new_buffer(name, math.prod(node.shape), node.dtype) for name, node in zip(names, nodes, strict=True)
        }
        self.packed = new_buffer("packed", self.shape.k // g.word * g.columns, self.dots.packed_dtype())
        self.shifts = new_buffer("shifts", self.shape.groups * g.columns, "int64")
        self.sums = new_buffer("sums", g.rows * g.columns, "int64")
        self.edge = new_buffer("edge", g.columns, "int32")

    def write(self) -> Any:
        s = self.shape
        prepare = self.dots.prepare(self.buffers["x_m"], s.batch * s.m, s.k, s.parallel)
        return function(self.symbol, list(self.buffers.values()), [*prepare, self._jobs()])

    def _jobs(self) -> Stmt:
        s = self.shape
        job = new_var("job")
        batch, begin_batch = bind("batch", tirx.truncdiv(job, const(s.blocks * s.chunks)))
        rest = tirx.truncmod(job, const(s.blocks * s.chunks))
        block, begin_block = bind("block", tirx.truncdiv(rest, const(s.chunks)))
        chunk, begin_chunk = bind("chunk", tirx.truncmod(rest, const(s.chunks)))
        tile = new_var("tile")
        first = tirx.truncdiv(chunk * const(s.tiles), const(s.chunks))
        end = tirx.truncdiv((chunk + const(1)) * const(s.tiles), const(s.chunks))
        memory = [allocate(b) for b in (self.packed, self.shifts, self.sums, self.edge)]
        body = [begin_batch, begin_block, begin_chunk, *memory, self._pack(batch, block)]
        body.append(loop(tile, end - first, self._tile(batch, block, tile), start=first))
        return loop(job, s.batch * s.blocks * s.chunks, body, parallel=s.parallel)

    def _pack(self, batch: Expr, block: Expr) -> Stmt:
        """w's block with its columns side by side, and its groups' shifts; missing columns repeat the last."""
        s, g = self.shape, self.geometry
        column, word, group = new_var("column"), new_var("word"), new_var("group")
        at = block * const(g.columns) + column
        row = batch * const(s.c) + (tirx.min(at, const(s.c - 1)) if s.c % g.columns else at)
        source = self.dots.pack_word(self.buffers["w_m"], row * const(s.k) + word * const(g.word))
        distance = load(self.buffers["w_d"], row * const(s.groups) + group).astype("int64")
        shift = const(self.window_w, "int64") - distance
        copy = [
            loop(word, s.k // g.word, [store(self.packed, word * const(g.columns) + column, source)]),
            loop(group, s.groups, [store(self.shifts, group * const(g.columns) + column, shift)]),
        ]
        return loop(column, g.columns, copy)

    def _tile(self, batch: Expr, block: Expr, tile: Expr) -> list[Stmt]:
        """All groups of a tile. Rows beyond the last repeat it, and are not stored."""
        s, g = self.shape, self.geometry
        group = new_var("g")
        zeros = [store(self.sums, *self._sum_place(i, j, 0)) for i in range(g.rows) for j in range(g.vectors)]
        names, statements = [], []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            inside = tirx.min(row, const(s.m - 1)) if s.m % g.rows else row
            name, statement = bind(f"row{i}", batch * const(s.m) + inside)
            names.append(name)
            statements.append(statement)
        dots, begin = self.dots.dots(self.packed, names, group, s.k)
        body = [*begin, *self._accumulate(names, group, dots)]
        return [*zeros, *statements, loop(group, s.groups, body), *self._finish(batch, block, tile)]

    def _sum_place(self, row: int, vector: int, value: int) -> tuple[Expr, Expr, int]:
        """Where a row's sums of a vector of columns are, a constant for them, and how many."""
        lanes = self.geometry.lanes
        place = const((row * self.geometry.vectors + vector) * lanes)
        return place, splat_const(value, lanes, "int64"), lanes

    def _accumulate(self, rows: list[Expr], group: Expr, dots: list[list[Expr]]) -> list[Stmt]:
        """Add a group's dots to the sums, at their exponents."""
        g, groups = self.geometry, self.shape.groups
        statements = []
        for i, row in enumerate(rows):
            distance = load(self.buffers["x_d"], row * const(groups) + group).astype("int64")
            x_shift, statement = bind(f"s{i}", splat(const(self.window_x, "int64") - distance, g.lanes))
            statements.append(statement)
            for j in range(g.vectors):
                w_shift = load(self.shifts, group * const(g.columns) + const(j * g.lanes), g.lanes)
                place, _, lanes = self._sum_place(i, j, 0)
                shifted = dots[i][j].astype(f"int64x{lanes}") << (w_shift + x_shift)
                statements.append(store(self.sums, place, load(self.sums, place, lanes) + shifted, lanes))
        return statements

    def _finish(self, batch: Expr, block: Expr, tile: Expr) -> list[Stmt]:
        """The one rounding, and the result's place; edge tiles go through a small buffer."""
        s, g = self.shape, self.geometry
        statements = []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            target = (batch * const(s.m) + row) * const(s.c) + block * const(g.columns)
            values = []
            for j in range(g.vectors):
                place, half, lanes = self._sum_place(i, j, 1 << (self.shift - 1))
                rounded = (load(self.sums, place, lanes) + half) >> splat_const(self.shift, lanes, "int64")
                values.append(rounded.astype(f"int32x{lanes}"))
            body = self._store(values, target, block)
            statements += [when(row < const(s.m), body)] if s.m % g.rows else body
        return statements

    def _store(self, values: list[Expr], target: Expr, block: Expr) -> list[Stmt]:
        """A row's results of a block of columns."""
        s, g = self.shape, self.geometry
        c = self.buffers["c"]
        whole = [store(c, target + const(j * g.lanes), v, g.lanes) for j, v in enumerate(values)]
        if s.c % g.columns == 0:
            return whole
        lane = new_var("lane")
        edge = [store(self.edge, const(j * g.lanes), v, g.lanes) for j, v in enumerate(values)]
        left = const(s.c) - block * const(g.columns)
        edge.append(loop(lane, tirx.min(left, const(g.columns)), [store(c, target + lane, load(self.edge, lane))]))
        full = (block + const(1)) * const(g.columns) <= const(s.c)
        return [tirx.IfThenElse(full, sequence(whole), sequence(edge))]


def write_matmul(symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> Any:
    """The kernel of a `gse_matmul` trace: x (m, d, e), w (m, d, e) -> int32. Row exponents are not read."""
    return _MatmulWriter(symbol, trace, x_bits, w_bits, cpu).write()
