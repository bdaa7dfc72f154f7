# SPDX-License-Identifier: Apache-2.0
"""A block of columns of w, as the tiles of a matmul read it (matmul.py).

A column of w lies along the reduction. The dots want the same word of all columns side by side, one
per lane. So a job transposes its block once, and all of its tiles read it from cache in order.
"""

from __future__ import annotations

from tvm import tirx

from gsqc.numerics.formats import GROUP
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    keep,
    load,
    loop,
    new_buffer,
    new_var,
    splat,
    splat_const,
    store,
)
from gsqc.targets.llvm.exact_product import ExactProduct, largest_of
from gsqc.targets.llvm.group_dots import GroupDots
from gsqc.targets.llvm.transpose import transpose_block


class PackedBlock:
    """The memory of a block, and the statements that fill it.

    words     the mantissas, [group][word][column]
    lifts     of each group and column
    last      the largest distance of the block, zero groups aside
    contents  of each column of the group in work, 0 if it is zero
    """

    def __init__(self, product: ExactProduct, dots: GroupDots) -> None:
        """Blocks of a kernel's w, packed for a form of the dots."""
        self.product, self.dots = product, dots
        g = self.geometry = dots.geometry
        self.words = new_buffer("packed", product.k // g.word * g.columns, dots.packed_dtype)
        self.lifts = new_buffer("w_lifts", product.groups * g.columns, "int32")
        self.last = new_buffer("w_last", 1, "int32")
        self.contents = new_buffer("contents", g.columns, "int32")

    def memory(self) -> list[Stmt]:
        """The buffers, allocated."""
        return [allocate(b) for b in (self.words, self.lifts, self.last, self.contents)]

    def _row(self, batch: Expr, block: Expr, column: Expr) -> Expr:
        """The row of w [batch · c, k] that holds a column of the block."""
        columns, c = self.geometry.columns, self.product.c
        at = block * const(columns) + column
        # Columns that the last block lacks repeat w's last one, and are not stored.
        return batch * const(c) + (tirx.min(at, const(c - 1)) if c % columns else at)

    def pack(self, batch: Expr, block: Expr) -> list[Stmt]:
        """Fill `words`, `lifts` and `last`."""
        g, groups = self.geometry, self.product.groups
        bound = [bind(f"column{k}", self._row(batch, block, const(k))) for k in range(g.columns)]
        rows = [row for row, _ in bound]
        group, column = new_var("group"), new_var("column")
        body = []
        for first in range(0, g.columns, g.words):
            body += self._pack_square(rows[first : first + g.words], first, group)
        at = self._row(batch, block, column) * const(groups) + group
        distance = load(self.product.buffers["w_d"], at).astype("int32")
        last = load(self.last, const(0))
        find = [
            store(self.lifts, group * const(g.columns) + column, distance),
            store(self.last, const(0), largest_of(last, distance, load(self.contents, column))),
        ]
        body.append(loop(column, g.columns, find))
        # The largest distance is known only after all groups: the lifts are made in place. That of
        # a zero group may come out negative, which no shift may be. Its dot is 0 at any lift.
        lift = tirx.max(last - load(self.lifts, column), const(0))
        return [
            *(begin for _, begin in bound),
            store(self.last, const(0), const(0)),
            loop(group, groups, body),
            loop(column, groups * g.columns, [store(self.lifts, column, lift)]),
        ]

    def _pack_square(self, rows: list[Expr], first: int, group: Expr) -> list[Stmt]:
        """Pack as many columns of a group as it has words: a square, transposed in registers."""
        g, n, row_size = self.geometry, len(rows), const(self.product.k)
        w, dtype = self.product.buffers["w_m"], self.dots.packed_dtype
        at = group * const(GROUP)
        kept = [
            keep(f"words{first + k}", self.dots.pack_group(w, row * row_size + at))
            for k, row in enumerate(rows)
        ]
        vectors, transpose = transpose_block([words for words, _ in kept], f"packed{first}")
        statements = [s for _, begin in kept for s in begin] + transpose
        # While the words are in registers, or them together: 0 says that a column's group is zero.
        contents = splat_const(0, n, dtype)
        zero = splat(self.dots.packed_zero(), n)
        for word, vector in enumerate(vectors):
            place = (group * const(g.words) + const(word)) * const(g.columns) + const(first)
            statements.append(store(self.words, place, vector, n))
            contents = contents | (vector ^ zero)
        if dtype == "int64":  # the narrowing below would lose the upper half
            contents = contents | (contents >> splat_const(32, n, "int64"))
        statements.append(store(self.contents, const(first), contents.astype(f"int32x{n}"), n))
        return statements
