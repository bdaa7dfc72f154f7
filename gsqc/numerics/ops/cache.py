# SPDX-License-Identifier: Apache-2.0
"""cache: the keys and values of earlier tokens, which generation keeps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import Row, row_dtype
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.ROW)
def put_row(b: Builder, cache: Row, row: Row, position: Tensor) -> Row:
    """cache [H, S, D] Row, row [H, 1, D] Row of the same bits -> the cache with that row.

    position  int32 [1, 1, 1] in [0, S)
    """
    there = b.iota((1, cache.shape[1], 1), 1).equal(position)
    m = where(there, row.mantissa, cache.mantissa)
    return Row(m.cast(row_dtype(cache.bits)), where(there, row.e, cache.e), cache.bits)


@op(Kind.LAYOUT)
def take_position(b: Builder, table: Tensor, position: Tensor) -> Tensor:
    """table int32 [1, S, D], position int32 [T] in [0, S) -> those entries, int32 [1, T, D]."""
    _, count, width = table.shape
    return b.gather(table.reshape(count, width), position).reshape(1, position.shape[0], width)


@op(Kind.ROW)
def put_column(b: Builder, cache: Row, column: Row, position: Tensor) -> Row:
    """cache [H, D, S] Row with an exponent per column, column [H, D, 1] -> the cache with it.

    position  int32 [1, 1, 1] in [0, S)
    """
    there = b.iota((1, 1, cache.shape[2]), 2).equal(position)
    m = where(there, column.mantissa, cache.mantissa)
    return Row(m.cast(row_dtype(cache.bits)), where(there, column.e, cache.e), cache.bits)


@cases(put_row)
def _put_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, position in (("first", (3, 32, 64), 0), ("last", (2, 7, 20), 6)):
        row = random_row(rng, (shape[0], 1, shape[2]), 16)
        yield Case(name, [random_row(rng, shape, 16), row, np.full((1, 1, 1), position, np.int32)])


@cases(take_position)
def _take_cases(rng: np.random.Generator) -> Iterator[Case]:
    table = rng.integers(-(2**29), 2**29, (1, 9, 32)).astype(np.int32)
    yield Case("middle", [table, np.array([5], np.int32)])
    yield Case("several", [table, np.array([5, 6, 8, 8], np.int32)])


@cases(put_column)
def _column_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, position in (("first", (3, 64, 40), 0), ("last", (2, 32, 7), 6)):
        column = random_row(rng, (shape[0], shape[1], 1), 8, column=True)
        cache = random_row(rng, shape, 8, column=True)
        yield Case(name, [cache, column, np.full((1, 1, 1), position, np.int32)])
