# SPDX-License-Identifier: Apache-2.0
"""What every kernel of the exact matmul shares: operands, the lifts of x, and the one rounding.

    for each group:  d[i, j] = Σ over the group of x[i] · w[j]      int32, exact; see group_dots.py
                     acc[i, j] += d << (lift of x's group + lift of w's group)
    C32 = (acc · 2^(base of x's row + base of w's columns) + 2^(s-1)) >> s

The definition shifts every group to the end of its window, for which int32 is too small. But only
the difference between groups matters inside the sum. The lift of a group is how far its exponent
lies above the least of its row (of x) or columns (of w). Zero groups do not count (in matvec.py,
only those of x). The base is what the lifts leave of the window, and is applied once, to the sum.

The sum is taken in int32 where

    Σ over groups of (Σ |x|) << lift of x's group,
    times the largest |w| << the largest lift of w,     is below 2^31 - 2^s

because then it must fit, the half of the rounding included. It is taken in int64, at half the
speed, where an outlier makes it larger. Both give the same exact sum.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP, WINDOW, largest_operand
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Buffer,
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
    vector_type,
)
from gsqc.targets.llvm.group_dots import GroupDots, sum_of_group

PARALLEL_PRODUCTS = 1 << 19
"""Multiply-adds from which a kernel is worth the start of the thread pool."""


class ExactProduct(ABC):
    """A kernel under construction: x [batch, m, k], w [batch, c, k] GSE -> int32 [batch, m, c]."""

    dots: GroupDots

    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        """The kernel `symbol` of a `gse_matmul` trace."""
        self.symbol, self.cpu = symbol, cpu
        x, w = trace.inputs[0].shape, trace.inputs[3].shape
        self.batch, self.m, self.c, self.k = (x[0] if len(x) == 3 else 1), x[-2], w[-2], x[-1]
        self.groups, self.rows = self.k // GROUP, self.batch * self.m
        self.largest_w = largest_operand(w_bits)
        # s is the definition's own: the op chose it from k alone, and the trace holds it.
        self.shift = next(n.attributes["shift"] for n in trace.nodes if n.operator == "matmul")
        names = ("x_m", "x_d", "x_e", "w_m", "w_d", "w_e", "c")
        nodes = [*trace.inputs, *trace.outputs]
        self.buffers = {
            name: new_buffer(name, math.prod(node.shape), node.dtype)
            for name, node in zip(names, nodes, strict=True)
        }
        self.x_lifts = new_buffer("x_lifts", self.rows * self.groups, "int32")
        self.x_bases = new_buffer("x_bases", self.rows, "int32")
        self.x_bounds = new_buffer("x_bounds", self.rows, "int32")

    @abstractmethod
    def jobs(self) -> Stmt:
        """The loop over the kernel's jobs, which its threads share."""

    def write(self) -> Any:
        """The kernel as a PrimFunc."""
        body = [*self._prepare(), self.jobs()]
        return function(self.symbol, list(self.buffers.values()), body)

    @property
    def parallel(self) -> bool:
        """Whether threads are worth their start."""
        return self.rows * self.c * self.k >= PARALLEL_PRODUCTS

    @property
    def most(self) -> int:
        """An int32 sum holds what a row's bound below this, shifted down by w's largest lift,
        allows.
        """
        return int(((1 << 31) - (1 << self.shift)) // self.largest_w)

    def _prepare(self) -> list[Stmt]:
        """What the jobs need to know of x: one loop over its rows, before the jobs."""
        row = new_var("row")
        memory = self.dots.memory(self.buffers["x_m"], self.rows, self.k)
        memory += [allocate(b) for b in (self.x_lifts, self.x_bases, self.x_bounds)]
        body = [*self.dots.prepare_row(row, self.k), *self._prepare_row(row)]
        return [*memory, loop(row, self.rows, body, parallel=self.parallel)]

    def _prepare_row(self, row: Expr) -> list[Stmt]:
        """The lifts of the groups of a row of x, the row's base, and the bound of its sums."""
        group = new_var("group")
        # sizes: Σ |x| of each group. total: the row's bound, and its largest distance.
        sizes, total = new_buffer("sizes", self.groups, "int32"), new_buffer("total", 2, "int32")
        m, d = self.buffers["x_m"], self.buffers["x_d"]
        size = load(sizes, group)
        at = row * const(self.groups) + group
        distance = load(d, at).astype("int32")
        group_m = load(m, row * const(self.k) + group * const(GROUP), GROUP)
        # |m| ≤ 127 in int8, because a mantissa is never -128. The sum of 32 needs the full int32.
        magnitude = tirx.max(group_m, splat_const(0, GROUP, "int8") - group_m)
        first, last = const(0), const(1)
        add_up = [
            store(sizes, group, sum_of_group(magnitude, self.cpu)),
            store(total, last, largest_of(load(total, last), distance, load(sizes, group))),
        ]
        # A zero group may lie below the least exponent that counts, and a shift is never negative.
        lift = tirx.max(load(total, last) - distance, const(0))
        lift_up = [
            store(self.x_lifts, at, lift),
            store(total, first, load(total, first) + (size << load(self.x_lifts, at))),
        ]
        # Two passes: the lifts need the largest distance, which is known after the last group.
        return [
            allocate(sizes),
            allocate(total),
            store(total, last, const(0)),
            loop(group, self.groups, add_up),
            store(total, first, const(0)),
            loop(group, self.groups, lift_up),
            store(self.x_bases, row, const(WINDOW) - load(total, last)),
            store(self.x_bounds, row, load(total, first)),
        ]

    def new_sums(self, count: int) -> dict[str, Buffer]:
        """Memory for sums, narrow and wide."""
        return {dtype: new_buffer(f"sums_{dtype}", count, dtype) for dtype in ("int32", "int64")}

    def narrow_or_wide(
        self, rows: list[Expr], limit: Expr, write: Callable[[str], list[Stmt]]
    ) -> Stmt:
        """What `write` makes for int32 if the bounds of all these rows allow it, else for int64."""
        bound = load(self.x_bounds, rows[0])
        for row in rows[1:]:
            bound = tirx.max(bound, load(self.x_bounds, row))
        return tirx.IfThenElse(bound < limit, sequence(write("int32")), sequence(write("int64")))

    def rounding(self, index: int, base: Expr, lanes: int, dtype: str) -> tuple[Any, list[Stmt]]:
        """How a sum becomes a result: a function of the sum, and the statements before it.

        A base above the shift s leaves nothing to round. Below it, the shift and its half become
        smaller by the base: the sum itself, multiplied by it, might not fit.
        """
        up, begin_up = bind(f"up{index}", tirx.max(base - const(self.shift), const(0)))
        down, begin_down = bind(f"down{index}", tirx.max(const(self.shift) - base, const(0)))
        half, begin_half = bind(f"half{index}", (const(1) << down) >> const(1))
        # The same for a whole row of the tile, so the shift amounts are copied to all lanes once.
        by_up, by_down, by_half = (
            splat(v, lanes).astype(vector_type(dtype, lanes)) for v in (up, down, half)
        )

        def finish(total: Expr) -> Expr:
            return (((total << by_up) + by_half) >> by_down).astype(vector_type("int32", lanes))

        return finish, [begin_up, begin_down, begin_half]


def largest_of(so_far: Expr, distance: Expr, content: Expr) -> Expr:
    """The larger distance, unless the group is zero: then its distance says nothing."""
    # A group of zeros may lie furthest below, though its lift moves nothing. If it counted, all
    # others would be lifted higher for it, beyond int32 perhaps.
    return tirx.max(so_far, tirx.Select(content == const(0), const(0), distance))
