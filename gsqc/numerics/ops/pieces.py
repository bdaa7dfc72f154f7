# SPDX-License-Identifier: Apache-2.0
"""sum_pieces and repeat_pieces: rows as pieces of equal length that share weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.primitives import normalise, store_row, widen
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.ROW)
def sum_pieces(b: Builder, x: Row, *, pieces: int, bits: int) -> Row:
    """x [T, pieces · c] Row -> the sum of its pieces, Row-bits [T, c].

    Each number first loses as many bits as the count of pieces has, of 30, so that the sum fits.
    """
    tokens, width = x.shape
    size = width // pieces
    m, e = widen(x)
    drop = (pieces - 1).bit_length()
    m = m.round_shift(drop) if drop else m
    total = m.slice((0, 0), (tokens, size))
    for k in range(1, pieces):
        total = total + m.slice((0, k * size), (tokens, size))
    return store_row(*normalise(total, e + drop, bits), bits)


@op(Kind.LAYOUT)
def repeat_pieces(b: Builder, x: Row, *, pieces: int) -> Row:
    """x [T, c] Row -> [T, pieces · c]: the row again and again. Exact."""
    return Row(b.concat([x.m] * pieces, 1) if pieces > 1 else x.m, x.e, x.bits)


@sum_pieces.define_gradient
def _sum_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(repeat_pieces, dy, pieces=call.attributes["pieces"])]


@repeat_pieces.define_gradient
def _repeat_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(sum_pieces, dy, pieces=call.attributes["pieces"], bits=24)]


@cases(sum_pieces)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for pieces, size, bits in ((3, 8, 16), (1, 20, 24), (8, 5, 24)):
        x = random_row(rng, (5, pieces * size), 24)
        yield Case(f"{pieces} pieces", [x], {"pieces": pieces, "bits": bits})
    largest = Row(np.full((2, 64), 2**15 - 1, np.int16), np.zeros((2, 1), np.int32), 16)
    yield Case("largest", [largest], {"pieces": 16, "bits": 16})


@cases(repeat_pieces)
def _repeat_cases(rng: np.random.Generator) -> Iterator[Case]:
    for pieces in (1, 3):
        yield Case(f"{pieces} pieces", [random_row(rng, (5, 8), 24)], {"pieces": pieces})
