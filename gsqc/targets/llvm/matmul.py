# SPDX-License-Identifier: Apache-2.0
"""The exact matmul, hand-scheduled: a group's dot in int32, shifted by both exponents, summed in int32 or int64.

A job is a block of columns of the result and a chunk of its rows. It packs its part of w once, then takes tiles of
rows; x stays where it is.

    for each group:  d[i, j] = Σ over the group of x[i] · w[j]                  int32, exact; see group_dots.py
                     acc[i, j] += d << (lift of x's group + lift of w's group)
    C32 = (acc · 2^(base of x's row + base of w's block) + 2^(s-1)) >> s

The lift of a group is how far its exponent lies above the least of its row (of x) or block of columns (of w), zero
groups aside; the base is the rest. The sum is taken in int32 where it must fit: where, for every row of the tile,

    Σ over groups of (Σ |x|) << lift of x's group,  times the largest |w| << the largest lift of w,  is below 2^31 - 2^s

and in int64 where an outlier makes it larger. Both give the same exact sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gsqc.formats import GROUP, largest
from gsqc.operators.trace import Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    function,
    keep,
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
from gsqc.targets.llvm.group_dots import Geometry, group_dots, sum_of_group
from gsqc.targets.llvm.transpose import transpose_block

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
        self.symbol, self.cpu, self.dots = symbol, cpu, group_dots(cpu)
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
        groups = self.shape.groups
        rows = self.shape.batch * self.shape.m
        self.x_lifts = new_buffer("x_lifts", rows * groups, "int32")
        self.x_bases = new_buffer("x_bases", rows, "int32")
        self.x_bounds = new_buffer("x_bounds", rows, "int32")
        self.packed = new_buffer("packed", self.shape.k // g.word * g.columns, self.dots.packed_dtype())
        self.w_lifts = new_buffer("w_lifts", groups * g.columns, "int32")
        self.w_last = new_buffer("w_last", 1, "int32")
        self.contents = new_buffer("contents", g.columns, "int32")
        self.sums = {dtype: new_buffer(f"sums_{dtype}", g.rows * g.columns, dtype) for dtype in ("int32", "int64")}
        self.edge = new_buffer("edge", g.columns, "int32")
        self.largest_w = largest(w_bits)

    def write(self) -> Any:
        s = self.shape
        prepare = self.dots.prepare(self.buffers["x_m"], s.batch * s.m, s.k, s.parallel)
        return function(self.symbol, list(self.buffers.values()), [*prepare, *self._prepare_rows(), self._jobs()])

    def _prepare_rows(self) -> list[Stmt]:
        """The lifts of x's groups, the base of each row, and the bound of its sums."""
        s = self.shape
        rows = s.batch * s.m
        row, group = new_var("row"), new_var("group")
        sizes, total = new_buffer("sizes", s.groups, "int32"), new_buffer("total", 2, "int32")
        m, d = self.buffers["x_m"], self.buffers["x_d"]
        size = load(sizes, group)
        at = row * const(s.groups) + group
        distance = load(d, at).astype("int32")
        group_m = load(m, row * const(s.k) + group * const(GROUP), GROUP)
        magnitude = tirx.max(group_m, splat_const(0, GROUP, "int8") - group_m)
        first, last = const(0), const(1)
        add_up = [
            store(sizes, group, sum_of_group(magnitude, self.cpu)),
            store(total, last, _largest_of(load(total, last), distance, load(sizes, group))),
        ]
        lift = tirx.max(load(total, last) - distance, const(0))
        lift_up = [
            store(self.x_lifts, at, lift),
            store(total, first, load(total, first) + (size << load(self.x_lifts, at))),
        ]
        body = [
            allocate(sizes),
            allocate(total),
            store(total, last, const(0)),
            loop(group, s.groups, add_up),
            store(total, first, const(0)),
            loop(group, s.groups, lift_up),
            store(self.x_bases, row, const(self.window_x) - load(total, last)),
            store(self.x_bounds, row, load(total, first)),
        ]
        memory = [allocate(b) for b in (self.x_lifts, self.x_bases, self.x_bounds)]
        return [*memory, loop(row, rows, body, parallel=s.parallel)]

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
        memory = [
            allocate(b) for b in (self.packed, self.w_lifts, self.w_last, self.contents, *self.sums.values(), self.edge)
        ]
        body = [begin_batch, begin_block, begin_chunk, *memory, *self._pack(batch, block)]
        last = load(self.w_last, const(0))
        w_base, begin_base = bind("w_base", const(self.window_w) - last)
        most = const(((1 << 31) - (1 << self.shift)) // self.largest_w)
        limit, begin_limit = bind("limit", most >> last)
        body += [begin_base, begin_limit]
        body.append(loop(tile, end - first, self._tile(batch, block, tile, w_base, limit), start=first))
        return loop(job, s.batch * s.blocks * s.chunks, body, parallel=s.parallel)

    def _pack(self, batch: Expr, block: Expr) -> list[Stmt]:
        """w's block with its columns side by side, and its groups' lifts; missing columns repeat the last."""
        s, g = self.shape, self.geometry
        statements, rows = [], []
        for k in range(g.columns):
            at = block * const(g.columns) + const(k)
            inside = tirx.min(at, const(s.c - 1)) if s.c % g.columns else at
            row, begin = bind(f"column{k}", batch * const(s.c) + inside)
            rows.append(row)
            statements.append(begin)
        group, column = new_var("group"), new_var("column")
        body = []
        for first in range(0, g.columns, g.words):
            body += self._pack_square(rows[first : first + g.words], first, group)
        at = block * const(g.columns) + column
        row = batch * const(s.c) + (tirx.min(at, const(s.c - 1)) if s.c % g.columns else at)
        distance = load(self.buffers["w_d"], row * const(s.groups) + group).astype("int32")
        last = load(self.w_last, const(0))
        find = [
            store(self.w_lifts, group * const(g.columns) + column, distance),
            store(self.w_last, const(0), _largest_of(last, distance, load(self.contents, column))),
        ]
        body.append(loop(column, g.columns, find))
        lift = tirx.max(last - load(self.w_lifts, column), const(0))
        return [
            *statements,
            store(self.w_last, const(0), const(0)),
            loop(group, s.groups, body),
            loop(column, s.groups * g.columns, [store(self.w_lifts, column, lift)]),
        ]

    def _pack_square(self, rows: list[Expr], first: int, group: Expr) -> list[Stmt]:
        """As many columns of a group as it has words, transposed; and for each whether it holds anything."""
        s, g, n = self.shape, self.geometry, len(rows)
        at = group * const(GROUP)
        words = [self.dots.pack_group(self.buffers["w_m"], row * const(s.k) + at) for row in rows]
        kept = [keep(f"words{first + k}", word) for k, word in enumerate(words)]
        vectors, statements = transpose_block([k[0] for k in kept], f"packed{first}")
        contents = splat_const(0, n, self.dots.packed_dtype())
        zero = splat(self.dots.packed_zero(), n)
        for word, vector in enumerate(vectors):
            place = (group * const(g.words) + const(word)) * const(g.columns) + const(first)
            statements.append(store(self.packed, place, vector, n))
            contents = contents | (vector ^ zero)
        statements.append(store(self.contents, const(first), contents.astype(f"int32x{n}"), n))
        return [s for k in kept for s in k[1]] + statements

    def _tile(self, batch: Expr, block: Expr, tile: Expr, w_base: Expr, limit: Expr) -> list[Stmt]:
        """All groups of a tile. Rows beyond the last repeat it, and are not stored."""
        s, g = self.shape, self.geometry
        names, statements = [], []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            inside = tirx.min(row, const(s.m - 1)) if s.m % g.rows else row
            name, statement = bind(f"row{i}", batch * const(s.m) + inside)
            names.append(name)
            statements.append(statement)
        bound = load(self.x_bounds, names[0])
        for name in names[1:]:
            bound = tirx.max(bound, load(self.x_bounds, name))
        narrow, wide = (
            sequence(self._tile_sum(dtype, batch, block, tile, names, w_base)) for dtype in ("int32", "int64")
        )
        return [*statements, tirx.IfThenElse(bound < limit, narrow, wide)]

    def _tile_sum(self, dtype: str, batch: Expr, block: Expr, tile: Expr, rows: list[Expr], w_base: Expr) -> list[Stmt]:
        """The tile with sums of a dtype."""
        s, g = self.shape, self.geometry
        group = new_var("g")
        zero = splat_const(0, g.lanes, dtype)
        places = [const(n * g.lanes) for n in range(g.rows * g.vectors)]
        zeros = [store(self.sums[dtype], place, zero, g.lanes) for place in places]
        dots, begin = self.dots.dots(self.packed, rows, group, s.k)
        body = [*begin, *self._accumulate(dtype, rows, group, dots)]
        return [*zeros, loop(group, s.groups, body), *self._finish(dtype, batch, block, tile, rows, w_base)]

    def _accumulate(self, dtype: str, rows: list[Expr], group: Expr, dots: list[list[Expr]]) -> list[Stmt]:
        """Add a group's dots to the sums, at their exponents."""
        g, groups, sums = self.geometry, self.shape.groups, self.sums[dtype]
        vector = f"{dtype}x{g.lanes}"
        statements = []
        for i, row in enumerate(rows):
            x_lift, statement = bind(f"s{i}", splat(load(self.x_lifts, row * const(groups) + group), g.lanes))
            statements.append(statement)
            for j in range(g.vectors):
                w_lift = load(self.w_lifts, group * const(g.columns) + const(j * g.lanes), g.lanes)
                place = const((i * g.vectors + j) * g.lanes)
                lifted = dots[i][j].astype(vector) << (w_lift + x_lift).astype(vector)
                statements.append(store(sums, place, load(sums, place, g.lanes) + lifted, g.lanes))
        return statements

    def _finish(self, dtype: str, batch: Expr, block: Expr, tile: Expr, rows: list[Expr], w_base: Expr) -> list[Stmt]:
        """The bases, the one rounding, and the result's place; edge tiles go through a small buffer.

        A base above the shift s leaves nothing to round; below it, the shift and its half become smaller.
        """
        s, g = self.shape, self.geometry
        vector = f"{dtype}x{g.lanes}"
        statements = []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            target = (batch * const(s.m) + row) * const(s.c) + block * const(g.columns)
            base, begin_base = bind(f"base{i}", load(self.x_bases, rows[i]) + w_base)
            up, begin_up = bind(f"up{i}", tirx.max(base - const(self.shift), const(0)))
            down, begin_down = bind(f"down{i}", tirx.max(const(self.shift) - base, const(0)))
            half, begin_half = bind(f"half{i}", (const(1) << down) >> const(1))
            statements += [begin_base, begin_up, begin_down, begin_half]
            by = {k: splat(v, g.lanes).astype(vector) for k, v in (("up", up), ("down", down), ("half", half))}
            values = []
            for j in range(g.vectors):
                total = load(self.sums[dtype], const((i * g.vectors + j) * g.lanes), g.lanes)
                rounded = ((total << by["up"]) + by["half"]) >> by["down"]
                values.append(rounded.astype(f"int32x{g.lanes}"))
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


def _largest_of(so_far: Expr, distance: Expr, content: Expr) -> Expr:
    """The larger distance, unless the group is zero: then its distance says nothing."""
    return tirx.max(so_far, tirx.Select(content == const(0), const(0), distance))


def write_matmul(symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> Any:
    """The kernel of a `gse_matmul` trace: x (m, d, e), w (m, d, e) -> int32. Row exponents are not read."""
    return _MatmulWriter(symbol, trace, x_bits, w_bits, cpu).write()
