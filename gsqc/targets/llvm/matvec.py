# SPDX-License-Identifier: Apache-2.0
"""The exact matmul of a few rows (exact_product.py has the arithmetic): w is read once, as it lies.

With one row, as when tokens are generated, packing w would cost more than the product. Here the
lanes of a vector lie along the reduction: each holds the sum of some of a row's products, and they
are added up at the end of the row. The least exponent of w is taken over one column.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP, WINDOW
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    intrinsic,
    load,
    loop,
    new_buffer,
    new_var,
    splat,
    splat_const,
    store,
)
from gsqc.targets.llvm.exact_product import ExactProduct
from gsqc.targets.llvm.group_dots import PairDots

MOST_ROWS = 4
"""Rows of x up to which w is not packed."""
COLUMNS = 16
"""Columns of a job."""
LANES = 8
"""Partial sums of a row of x."""


class _MatvecWriter(ExactProduct):
    """A kernel of columns."""

    dots: PairDots

    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        super().__init__(symbol, trace, x_bits, w_bits, cpu)
        self.dots = PairDots(cpu)
        self.last = new_buffer("w_last", 1, "int32")
        self.sums = self.new_sums(self.m * LANES)

    def jobs(self) -> Stmt:
        """A job is (batch, COLUMNS columns)."""
        job, column = new_var("job"), new_var("column")
        # The columns of w share nothing here, so a job is any number of them.
        per_batch = -(-self.c // COLUMNS)
        batch, begin_batch = bind("batch", tirx.truncdiv(job, const(per_batch)))
        first, begin_first = bind("first", tirx.truncmod(job, const(per_batch)) * const(COLUMNS))
        count = tirx.min(const(self.c) - first, const(COLUMNS))
        memory = [allocate(b) for b in (self.last, *self.sums.values())]
        columns = loop(column, count, self._column(batch, column), start=first)
        body = [begin_batch, begin_first, *memory, columns]
        return loop(job, self.batch * per_batch, body, parallel=self.parallel)

    def _column(self, batch: Expr, column: Expr) -> list[Stmt]:
        """One column with all rows of x."""
        w_row, begin_row = bind("w_row", batch * const(self.c) + column)
        group = new_var("group")
        distance = load(self.buffers["w_d"], w_row * const(self.groups) + group).astype("int32")
        # Zero groups of w count here. To look for them would mean to read w twice.
        largest = store(self.last, const(0), tirx.max(load(self.last, const(0)), distance))
        find = [store(self.last, const(0), const(0)), loop(group, self.groups, [largest])]
        last, begin_last = bind("last", load(self.last, const(0)))
        rows = [batch * const(self.m) + const(i) for i in range(self.m)]

        def write(dtype: str) -> list[Stmt]:
            return self._sum(dtype, column, w_row, rows, last)

        chosen = self.narrow_or_wide(rows, const(self.most) >> last, write)
        return [begin_row, *find, begin_last, chosen]

    def _sum(
        self, dtype: str, column: Expr, w_row: Expr, rows: list[Expr], last: Expr
    ) -> list[Stmt]:
        sums, vector = self.sums[dtype], f"{dtype}x{LANES}"
        group = new_var("g")
        w_lift, begin_lift = bind(
            "w_lift",
            last - load(self.buffers["w_d"], w_row * const(self.groups) + group).astype("int32"),
        )
        # 16 int8 of w become one register of int16: a group is two of them, for all rows of x.
        body, halves = [begin_lift], []
        for h in range(2):
            at = w_row * const(self.k) + group * const(GROUP) + const(h * 16)
            name, begin = bind(f"w{h}", load(self.buffers["w_m"], at, 16).astype("int16x16"))
            halves.append(name)
            body.append(begin)
        for i, row in enumerate(rows):
            at = row * const(self.k) + group * const(GROUP)
            parts = [
                self.dots.product(load(self.dots.wide, at + const(h * 16), 16), halves[h])
                for h in range(2)
            ]
            # Eight partial dots, which are lifted as they are: shifts and sums may change places.
            dots, begin = bind(f"d{i}", parts[0] + parts[1])
            lift = load(self.x_lifts, row * const(self.groups) + group) + w_lift
            lifted = dots.astype(vector) << splat(lift, LANES).astype(vector)
            place = const(i * LANES)
            body += [begin, store(sums, place, load(sums, place, LANES) + lifted, LANES)]
        zero = splat_const(0, LANES, dtype)
        statements = [store(sums, const(i * LANES), zero, LANES) for i in range(self.m)]
        statements.append(loop(group, self.groups, body))
        for i, row in enumerate(rows):
            base, begin_base = bind(f"base{i}", load(self.x_bases, row) + const(WINDOW) - last)
            finish, begin = self.rounding(i, base, 1, dtype)
            total = intrinsic(dtype, "llvm.vector.reduce.add", load(sums, const(i * LANES), LANES))
            result = store(self.buffers["c"], row * const(self.c) + column, finish(total))
            statements += [begin_base, *begin, result]
        return statements


def write_matvec(symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> Any:
    """The kernel of a `gse_matmul` trace of at most MOST_ROWS rows of x."""
    return _MatvecWriter(symbol, trace, x_bits, w_bits, cpu).write()
