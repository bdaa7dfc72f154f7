# SPDX-License-Identifier: Apache-2.0
"""clip: the norm of the whole gradient, and the scale that limits it.

Pascanu et al. 2013 (arXiv 1211.5063), algorithm 1. The update multiplies the summed gradient by
1 / tokens. Clipping to a norm of at most c changes that one number to min(1 / tokens, c / ‖sum‖).
It needs no second pass over the gradient, and no division.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import LEAST_EXPONENT, Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.accumulate import random_limbs, sum_row
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    normalise,
    normalise_elements,
    normalise_mixed,
    reciprocal_root,
    row_sum,
    store_row,
)
from gsqc.numerics.ops.registry import Case, Kind, cases, op

SQUARE_BITS = 30


@op(Kind.ROW)
def row_squares(b: Builder, high: Tensor, low: Tensor) -> Row:
    """Limbs [R, K] of the summed gradient -> Σ g² of each row, Row-30 [R, 1]. K ≤ 2^15.

    Squares are rounded to 28 bits of the row's largest and summed exactly. The relative error of a
    row is below 2^-26.
    """
    m, e = sum_row(high, low)
    s, s_e = row_sum(m.mulr30(m))
    return store_row(*normalise(s, s_e + (e + e) + 30, SQUARE_BITS), SQUARE_BITS)


@op(Kind.ROW)
def add_squares(b: Builder, squares: Row, total: Row) -> Row:
    """squares Row-30 [1, R] with an exponent per element, total Row-30 [1, 1] -> total + Σ squares.

    R ≤ 2^15. A total of 0 may have any exponent, because the buffer is zeroed before each step.
    """
    m, e = normalise_mixed(squares.m, squares.e, SQUARE_BITS)
    s, s_e = row_sum(m)
    before = where(total.m.greater(0), total.e, LEAST_EXPONENT)
    return store_row(*normalise(*add_scaled(s, s_e + e, total.m, before), SQUARE_BITS), SQUARE_BITS)


def _smaller(a: Scaled, c: Scaled) -> Scaled:
    """The smaller of two positive numbers whose mantissas lie in [2^29, 2^30)."""
    a_minus_c = where(a[1].equal(c[1]), a[0] - c[0], a[1] - c[1])
    is_a = c[0].lift(0).greater(a_minus_c)
    return where(is_a, a[0], c[0]), where(is_a, a[1], c[1])


@op(Kind.ROW)
def clip_scale(
    b: Builder, total: Row, inverse_m: Tensor, inverse_e: Tensor, clip_m: Tensor, clip_e: Tensor
) -> tuple[Tensor, Tensor]:
    """total Row-30 = ‖sum‖², 1 / tokens and the largest norm c > 0 -> min(1 / tokens, c / ‖sum‖).

    Numbers other than the total are a mantissa in [2^29, 2^30) and an exponent. All are [1, 1]. The
    relative error is 1e-8. A zero gradient keeps 1 / tokens.
    """
    root_m, root_e = reciprocal_root(total.m, total.e)
    limit, shift = normalise_elements(root_m.mulr30(clip_m))
    return _smaller((limit, (root_e + clip_e + 30) - shift), (inverse_m, inverse_e))


def _total(m: int, e: int) -> Row:
    return Row(np.array([[m]], np.int32), np.array([[e]], np.int32), SQUARE_BITS)


@cases(row_squares)
def _row_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, octaves in (
        ("usual", (16, 40), 24),
        ("ragged", (5, 7), 30),
        ("one", (1, 1), 24),
    ):
        yield Case(name, random_limbs(rng, shape, octaves))
    high = np.full((4, 600), -(2**31) + 1, np.int32)
    yield Case("largest", [high, np.full_like(high, 2**22 - 1)])


@cases(add_squares)
def _add_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, count, total in (
        ("first", 40, _total(0, 0)),
        ("later", 7, _total(2**29 - 1, -40)),
        ("one", 1, _total(1, 3)),
    ):
        m = rng.integers(2**28, 2**29, (1, count)).astype(np.int32)
        m[0, 0] = 0
        e = rng.integers(-90, -20, (1, count)).astype(np.int32)
        e[0, 0] = LEAST_EXPONENT
        yield Case(name, [Row(m, e, SQUARE_BITS), total])
    largest = Row(
        np.full((1, 600), 2**29 - 1, np.int32), np.full((1, 600), 20, np.int32), SQUARE_BITS
    )
    yield Case("largest", [largest, _total(2**29 - 1, 20)])


@cases(clip_scale)
def _scale_cases(rng: np.random.Generator) -> Iterator[Case]:
    totals = {
        "clipped": (2**29 - 1, -9),
        "kept": (2**28, -60),
        "zero": (0, LEAST_EXPONENT),
        "largest": (2**29 - 1, 60),
    }
    for name, (m, e) in totals.items():
        numbers = [(2**30 - 1, -38), (2**29, -29)]
        yield Case(
            name, [_total(m, e), *(np.array([[v]], np.int32) for pair in numbers for v in pair)]
        )
    equal = [(2**29, -29), (2**29, -29)]
    yield Case(
        "equal", [_total(2**28, -28), *(np.array([[v]], np.int32) for pair in equal for v in pair)]
    )
