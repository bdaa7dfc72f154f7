# SPDX-License-Identifier: Apache-2.0
"""A square block transposed in registers, in log2(n) rounds of shuffles (Eklundh 1972)."""

from __future__ import annotations

from tvm import tirx

from gsqc.targets.llvm.emit import Expr, Stmt, const, keep


def transpose_block(rows: list[Expr], name: str) -> tuple[list[Expr], list[Stmt]]:
    """The columns of a block as vectors, and the statements before them.

    `rows` are n vectors of n lanes. A round of distance h swaps, in each pair of rows i and i + h,
    the upper right quarter of a block of 2h x 2h with its lower left one.
    """
    n = len(rows)
    assert n & (n - 1) == 0
    statements: list[Stmt] = []
    h = n // 2
    while h:
        new = list(rows)
        for i in range(n):
            if i & h:
                continue
            # A shuffle's lanes 0 to n - 1 are the first row's, and those from n on the second's.
            lower = [j if not j & h else n + j - h for j in range(n)]
            upper = [j + h if not j & h else n + j for j in range(n)]
            for row, lanes in ((i, lower), (i + h, upper)):
                value = tirx.Shuffle([rows[i], rows[i + h]], [const(j) for j in lanes])
                new[row], kept = keep(f"{name}_{h}_{row}", value)
                statements += kept
        rows = new
        h //= 2
    return rows, statements
