# SPDX-License-Identifier: Apache-2.0
"""The exact matmul by tiles (exact_product.py has the arithmetic): for more than a few rows of x.

A job is a block of columns of the result and a chunk of its rows. It packs its part of w once, then
takes tiles of rows; x stays where it is. The least exponent of w is taken over a job's columns.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.llvm.arm_dots import group_dots
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
from gsqc.targets.llvm.exact_product import ExactProduct, largest_of
from gsqc.targets.llvm.matvec import MOST_ROWS, write_matvec
from gsqc.targets.llvm.transpose import transpose_block


class _MatmulWriter(ExactProduct):
    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        super().__init__(symbol, trace, x_bits, w_bits, cpu)
        self.dots = group_dots(cpu, x_bits, w_bits)
        g = self.geometry = self.dots.geometry
        self.tiles, self.blocks = -(-self.m // g.rows), -(-self.c // g.columns)
        # More than one chunk of rows per block of columns only where columns alone give too little
        # to share.
        self.chunks = 1 if self.batch * self.blocks >= 8 else min(self.tiles, 8)
        self.packed = new_buffer("packed", self.k // g.word * g.columns, self.dots.packed_dtype)
        self.w_lifts = new_buffer("w_lifts", self.groups * g.columns, "int32")
        self.w_last = new_buffer("w_last", 1, "int32")
        self.contents = new_buffer("contents", g.columns, "int32")
        self.sums = {
            dtype: new_buffer(f"sums_{dtype}", g.rows * g.columns, dtype)
            for dtype in ("int32", "int64")
        }
        self.edge = new_buffer("edge", g.columns, "int32")

    def write(self) -> Any:
        """The kernel as a PrimFunc."""
        return function(
            self.symbol, list(self.buffers.values()), [*self.prepare(self.dots), self._jobs()]
        )

    def _jobs(self) -> Stmt:
        job = new_var("job")
        batch, begin_batch = bind("batch", tirx.truncdiv(job, const(self.blocks * self.chunks)))
        rest = tirx.truncmod(job, const(self.blocks * self.chunks))
        block, begin_block = bind("block", tirx.truncdiv(rest, const(self.chunks)))
        chunk, begin_chunk = bind("chunk", tirx.truncmod(rest, const(self.chunks)))
        tile = new_var("tile")
        first = tirx.truncdiv(chunk * const(self.tiles), const(self.chunks))
        end = tirx.truncdiv((chunk + const(1)) * const(self.tiles), const(self.chunks))
        memory = [
            allocate(b)
            for b in (
                self.packed,
                self.w_lifts,
                self.w_last,
                self.contents,
                *self.sums.values(),
                self.edge,
            )
        ]
        body = [begin_batch, begin_block, begin_chunk, *memory, *self._pack(batch, block)]
        last = load(self.w_last, const(0))
        w_base, begin_base = bind("w_base", const(self.window_w) - last)
        limit, begin_limit = bind("limit", const(self.most) >> last)
        body += [begin_base, begin_limit]
        body.append(
            loop(tile, end - first, self._tile(batch, block, tile, w_base, limit), start=first)
        )
        return loop(job, self.batch * self.blocks * self.chunks, body, parallel=self.parallel)

    def _pack(self, batch: Expr, block: Expr) -> list[Stmt]:
        """w's block with its columns side by side, and its groups' lifts; missing columns repeat
        the last.
        """
        g = self.geometry
        statements, rows = [], []
        for k in range(g.columns):
            at = block * const(g.columns) + const(k)
            inside = tirx.min(at, const(self.c - 1)) if self.c % g.columns else at
            row, begin = bind(f"column{k}", batch * const(self.c) + inside)
            rows.append(row)
            statements.append(begin)
        group, column = new_var("group"), new_var("column")
        body = []
        for first in range(0, g.columns, g.words):
            body += self._pack_square(rows[first : first + g.words], first, group)
        at = block * const(g.columns) + column
        row = batch * const(self.c) + (
            tirx.min(at, const(self.c - 1)) if self.c % g.columns else at
        )
        distance = load(self.buffers["w_d"], row * const(self.groups) + group).astype("int32")
        last = load(self.w_last, const(0))
        find = [
            store(self.w_lifts, group * const(g.columns) + column, distance),
            store(self.w_last, const(0), largest_of(last, distance, load(self.contents, column))),
        ]
        body.append(loop(column, g.columns, find))
        lift = tirx.max(last - load(self.w_lifts, column), const(0))
        return [
            *statements,
            store(self.w_last, const(0), const(0)),
            loop(group, self.groups, body),
            loop(column, self.groups * g.columns, [store(self.w_lifts, column, lift)]),
        ]

    def _pack_square(self, rows: list[Expr], first: int, group: Expr) -> list[Stmt]:
        """As many columns of a group as it has words, transposed; and for each whether it holds
        anything.
        """
        g, n = self.geometry, len(rows)
        at = group * const(GROUP)
        words = [
            self.dots.pack_group(self.buffers["w_m"], row * const(self.k) + at) for row in rows
        ]
        kept = [keep(f"words{first + k}", word) for k, word in enumerate(words)]
        vectors, statements = transpose_block([k[0] for k in kept], f"packed{first}")
        contents = splat_const(0, n, self.dots.packed_dtype)
        zero = splat(self.dots.packed_zero(), n)
        for word, vector in enumerate(vectors):
            place = (group * const(g.words) + const(word)) * const(g.columns) + const(first)
            statements.append(store(self.packed, place, vector, n))
            contents = contents | (vector ^ zero)
        if self.dots.packed_dtype == "int64":
            contents = contents | (contents >> splat_const(32, n, "int64"))
        statements.append(store(self.contents, const(first), contents.astype(f"int32x{n}"), n))
        return [s for k in kept for s in k[1]] + statements

    def _tile(self, batch: Expr, block: Expr, tile: Expr, w_base: Expr, limit: Expr) -> list[Stmt]:
        """All groups of a tile. Rows beyond the last repeat it, and are not stored."""
        g = self.geometry
        names, statements = [], []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            inside = tirx.min(row, const(self.m - 1)) if self.m % g.rows else row
            name, statement = bind(f"row{i}", batch * const(self.m) + inside)
            names.append(name)
            statements.append(statement)
        bound = load(self.x_bounds, names[0])
        for name in names[1:]:
            bound = tirx.max(bound, load(self.x_bounds, name))
        narrow, wide = (
            sequence(self._tile_sum(dtype, batch, block, tile, names, w_base))
            for dtype in ("int32", "int64")
        )
        return [*statements, tirx.IfThenElse(bound < limit, narrow, wide)]

    def _tile_sum(
        self, dtype: str, batch: Expr, block: Expr, tile: Expr, rows: list[Expr], w_base: Expr
    ) -> list[Stmt]:
        """The tile with sums of a dtype."""
        g = self.geometry
        group = new_var("g")
        zero = splat_const(0, g.lanes, dtype)
        places = [const(n * g.lanes) for n in range(g.rows * g.vectors)]
        zeros = [store(self.sums[dtype], place, zero, g.lanes) for place in places]
        dots, begin = self.dots.dots(self.packed, rows, group, self.k)
        body = [*begin, *self._accumulate(dtype, rows, group, dots)]
        return [
            *zeros,
            loop(group, self.groups, body),
            *self._finish(dtype, batch, block, tile, rows, w_base),
        ]

    def _accumulate(
        self, dtype: str, rows: list[Expr], group: Expr, dots: list[list[Expr]]
    ) -> list[Stmt]:
        """Add a group's dots to the sums, at their exponents."""
        g, groups, sums = self.geometry, self.groups, self.sums[dtype]
        vector = f"{dtype}x{g.lanes}"
        statements = []
        for i, row in enumerate(rows):
            x_lift, statement = bind(
                f"s{i}", splat(load(self.x_lifts, row * const(groups) + group), g.lanes)
            )
            statements.append(statement)
            for j in range(g.vectors):
                w_lift = load(self.w_lifts, group * const(g.columns) + const(j * g.lanes), g.lanes)
                place = const((i * g.vectors + j) * g.lanes)
                lifted = dots[i][j].astype(vector) << (w_lift + x_lift).astype(vector)
                statements.append(store(sums, place, load(sums, place, g.lanes) + lifted, g.lanes))
        return statements

    def _finish(
        self, dtype: str, batch: Expr, block: Expr, tile: Expr, rows: list[Expr], w_base: Expr
    ) -> list[Stmt]:
        """The bases, the one rounding, and the result's place; edge tiles go through a small
        buffer.
        """
        g = self.geometry
        statements = []
        for i in range(g.rows):
            row = tile * const(g.rows) + const(i)
            target = (batch * const(self.m) + row) * const(self.c) + block * const(g.columns)
            base, begin_base = bind(f"base{i}", load(self.x_bases, rows[i]) + w_base)
            finish, begin = self.rounding(i, base, g.lanes, dtype)
            statements += [begin_base, *begin]
            sums = [
                load(self.sums[dtype], const((i * g.vectors + j) * g.lanes), g.lanes)
                for j in range(g.vectors)
            ]
            values = [finish(total) for total in sums]
            body = self._store(values, target, block)
            statements += [when(row < const(self.m), body)] if self.m % g.rows else body
        return statements

    def _store(self, values: list[Expr], target: Expr, block: Expr) -> list[Stmt]:
        """A row's results of a block of columns."""
        g = self.geometry
        c = self.buffers["c"]
        whole = [store(c, target + const(j * g.lanes), v, g.lanes) for j, v in enumerate(values)]
        if self.c % g.columns == 0:
            return whole
        lane = new_var("lane")
        edge = [store(self.edge, const(j * g.lanes), v, g.lanes) for j, v in enumerate(values)]
        left = const(self.c) - block * const(g.columns)
        edge.append(
            loop(
                lane,
                tirx.min(left, const(g.columns)),
                [store(c, target + lane, load(self.edge, lane))],
            )
        )
        full = (block + const(1)) * const(g.columns) <= const(self.c)
        return [tirx.IfThenElse(full, sequence(whole), sequence(edge))]


def write_matmul(symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> Any:
    """The kernel of a `gse_matmul` trace: x (m, d, e), w (m, d, e) -> int32. Row exponents are not
    read.
    """
    kernel = _MatmulWriter(symbol, trace, x_bits, w_bits, cpu)
    if kernel.m <= MOST_ROWS:
        return write_matvec(symbol, trace, x_bits, w_bits, cpu)
    return kernel.write()
