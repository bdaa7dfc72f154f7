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
def mask_future(b: Builder, c: Tensor, position: Tensor) -> Tensor:
    """c int32 [..., T, S] -> c with zeros in the columns of row t beyond position[t].

    position  int32 [1, …, T, 1]

    These are the products of a token with later ones. Where a token is read alone, the cache holds
    zeros there, so both ways give the same bits.
    """
    rank = len(c.shape)
    column = b.iota((*(1,) * (rank - 1), c.shape[-1]), rank - 1)
    return where(column.greater(position), 0, c)


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


@cases(mask_future)
def _mask_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, positions in (
        ("chunk", (2, 3, 4, 40), [17, 18, 19, 19]),
        ("ends", (1, 1, 2, 33), [0, 32]),
    ):
        c = rng.integers(-(2**30), 2**30, shape).astype(np.int32)
        yield Case(name, [c, np.array(positions, np.int32).reshape(1, 1, -1, 1)])
