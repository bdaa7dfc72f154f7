# SPDX-License-Identifier: Apache-2.0
"""embedding: rows of a GSE table, and the adapter's master weights as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import GROUP, WINDOW, Gse, Row, largest
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.linear import random_gse
from gsqc.numerics.ops.primitives import normalise, store_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op
from gsqc.numerics.ops.unrotate import unrotate

MASTER_FRACTION_BITS = 24
"""Adapter weights are int32 with 24 fraction bits (Q24). |p| < 2^30 stands for less than 64."""


@op(Kind.LAYOUT)
def take_rows(b: Builder, tokens: Tensor, table: Gse) -> Row:
    """tokens int32 [T] in [0, V), table GSE-8 [V, n] -> their rows as stored, Row-24 [T, n], exact.

    A table is stored rotated, as the operand of a matmul.
    """
    m = b.gather(table.m, tokens).cast("int32")
    d = b.gather(table.d, tokens).cast("int32")
    count, groups = tokens.shape[0], d.shape[1]
    m = m.reshape(count, groups, GROUP) << (WINDOW - d.reshape(count, groups, 1))
    row = m.reshape(count, groups * GROUP)
    return store_row(row << 8, b.gather(table.e, tokens) - (WINDOW + 8), 24)


@composite
def embedding(call: Calls, tokens: Tensor, table: Gse, *, columns: int) -> Row:
    """tokens int32 [T] in [0, V), table GSE-8 [V, n] -> their rows, Row-24 [T, columns].

    n is `columns`, padded to whole groups.
    """
    row: Row = call(unrotate, call(take_rows, tokens, table), columns=columns, bits=24)
    return row


@embedding.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """The table is frozen."""
    return [None, None]


@op(Kind.ROW)
def gse_row(b: Builder, x: Gse) -> Row:
    """x GSE-b [R, n] -> the same numbers as a Row-16 [R, n], exact."""
    count, n = x.shape
    m = x.m.cast("int32").reshape(count, n // GROUP, GROUP)
    aligned = m << (WINDOW - x.d.cast("int32").reshape(count, n // GROUP, 1))
    return store_row(aligned.reshape(count, n), x.e - WINDOW, 16)


@op(Kind.ROW)
def master_row(b: Builder, p: Tensor) -> Row:
    """Master weights int32 Q24 [R, n] -> Row-24, rounded half up."""
    e = b.const(-MASTER_FRACTION_BITS, len(p.shape))
    return store_row(*normalise(p, e, 24), 24)


@cases(take_rows)
def _take_cases(rng: np.random.Generator) -> Iterator[Case]:
    tokens = rng.integers(0, 50, 9).astype(np.int32)
    yield Case("two groups", [tokens, random_gse(rng, (50, 64), 8)])


@cases(embedding)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    table = random_gse(rng, (50, 64), 8)
    tokens = rng.integers(0, 50, 9).astype(np.int32)
    yield Case("hidden 64", [tokens, table], {"columns": 64})
    yield Case("ragged", [tokens, table], {"columns": 40})


@cases(gse_row)
def _gse_row_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("gse8", [random_gse(rng, (5, 96), 8)])
    yield Case("gse5", [random_gse(rng, (3, 32), 5, extreme=True)])


@cases(master_row)
def _master_cases(rng: np.random.Generator) -> Iterator[Case]:
    p = rng.integers(-(2**30) + 1, 2**30, (6, 40)) >> rng.integers(0, 30, (6, 1))
    p[0] = 0
    yield Case("rank", [p.astype(np.int32)])
    yield Case("extreme", [np.full((2, 16), largest(31), np.int32)])
