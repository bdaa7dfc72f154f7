# SPDX-License-Identifier: Apache-2.0
"""The exact matmul by tiles (exact_product.py has the arithmetic): for more than a few rows of x.

A job is a block of columns of the result and a chunk of its rows. It packs its part of w once, then
takes tiles of rows. x stays where it is: a word of it goes to all lanes, in any order. The least
exponent of w is taken over a job's columns, so that one bound serves a whole tile.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gsqc.numerics.formats import WINDOW
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.llvm.arm_dots import group_dots
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
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
from gsqc.targets.llvm.exact_product import ExactProduct
from gsqc.targets.llvm.matvec import MOST_ROWS, write_matvec
from gsqc.targets.llvm.packed_block import PackedBlock


class _MatmulWriter(ExactProduct):
    """A kernel of tiles."""

    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        super().__init__(symbol, trace, x_bits, w_bits, cpu)
        self.dots = group_dots(cpu, x_bits, w_bits)
        g = self.geometry = self.dots.geometry
        self.tiles, self.blocks = -(-self.m // g.rows), -(-self.c // g.columns)
        # Every chunk of rows packs w again. So there is more than one only where the blocks of
        # columns alone would leave threads idle.
        self.chunks = 1 if self.batch * self.blocks >= 8 else min(self.tiles, 8)
        self.block = PackedBlock(self, self.dots)
        self.sums = self.new_sums(g.rows * g.columns)
        self.edge = new_buffer("edge", g.columns, "int32")

    def jobs(self) -> Stmt:
        """A job is (batch, block of columns, chunk of rows)."""
        job = new_var("job")
        batch, begin_batch = bind("batch", tirx.truncdiv(job, const(self.blocks * self.chunks)))
        rest = tirx.truncmod(job, const(self.blocks * self.chunks))
        block, begin_block = bind("block", tirx.truncdiv(rest, const(self.chunks)))
        chunk, begin_chunk = bind("chunk", tirx.truncmod(rest, const(self.chunks)))
        tile = new_var("tile")
        first = tirx.truncdiv(chunk * const(self.tiles), const(self.chunks))
        end = tirx.truncdiv((chunk + const(1)) * const(self.tiles), const(self.chunks))
        memory = [*self.block.memory(), *map(allocate, (*self.sums.values(), self.edge))]
        body = [begin_batch, begin_block, begin_chunk, *memory, *self.block.pack(batch, block)]
        # A row's bound times the largest |w| must stay below the limit of int32. What is the same
        # for the whole job is divided out here: that leaves one comparison per tile.
        last = load(self.block.last, const(0))
        w_base, begin_base = bind("w_base", const(WINDOW) - last)
        limit, begin_limit = bind("limit", const(self.most) >> last)
        body += [begin_base, begin_limit]
        body.append(
            loop(tile, end - first, self._tile(batch, block, tile, w_base, limit), start=first)
        )
        return loop(job, self.batch * self.blocks * self.chunks, body, parallel=self.parallel)

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

        def write(dtype: str) -> list[Stmt]:
            return self._tile_sum(dtype, batch, block, tile, names, w_base)

        return [*statements, self.narrow_or_wide(names, limit, write)]

    def _tile_sum(
        self, dtype: str, batch: Expr, block: Expr, tile: Expr, rows: list[Expr], w_base: Expr
    ) -> list[Stmt]:
        """The tile with sums of a dtype."""
        g = self.geometry
        group = new_var("g")
        zero = splat_const(0, g.lanes, dtype)
        places = [const(n * g.lanes) for n in range(g.rows * g.vectors)]
        zeros = [store(self.sums[dtype], place, zero, g.lanes) for place in places]
        dots, begin = self.dots.dots(self.block.words, rows, group, self.k)
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
        # The sums lie in a buffer with constant places: LLVM keeps all of it in registers.
        g, groups, sums = self.geometry, self.groups, self.sums[dtype]
        vector = f"{dtype}x{g.lanes}"
        statements = []
        for i, row in enumerate(rows):
            x_lift, statement = bind(
                f"s{i}", splat(load(self.x_lifts, row * const(groups) + group), g.lanes)
            )
            statements.append(statement)
            for j in range(g.vectors):
                w_lift = load(
                    self.block.lifts, group * const(g.columns) + const(j * g.lanes), g.lanes
                )
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
        # A vector store would run into the next row: the last block goes through memory of its own.
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
    # With a row or a few, packing w would cost more than multiplying it.
    if kernel.m <= MOST_ROWS:
        return write_matvec(symbol, trace, x_bits, w_bits, cpu)
    return kernel.write()
