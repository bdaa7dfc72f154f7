# SPDX-License-Identifier: Apache-2.0
"""add, scale and others: sums of rows, as in the residual stream, and products with a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import LEAST_EXPONENT, Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    add_scaled,
    normalise,
    scale_by_constant,
    scaled_constant,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.ROW)
def add(b: Builder, x: Row, y: Row, *, bits: int) -> Row:
    """x [..., n] Row, y of that shape or one row -> x + y, Row-bits.

    The sum is made at 30 bits and normalised once: 0.52 ulp. A single row is a bias, which is
    frozen.
    """
    return store_row(*normalise(*add_scaled(*widen(x), *widen(y)), bits), bits)


@add.define_gradient
def _add_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [dy, dy]


@op(Kind.ROW)
def subtract(b: Builder, x: Row, y: Row, *, bits: int) -> Row:
    """As `add`, for x - y. y is frozen."""
    m, e = widen(y)
    return store_row(*normalise(*add_scaled(*widen(x), 0 - m, e), bits), bits)


@subtract.define_gradient
def _subtract_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [dy, None]


@op(Kind.ROW)
def add_number(b: Builder, x: Row, *, number: float, bits: int) -> Row:
    """x [..., n] Row -> x + number, Row-bits. The number is rounded to 30 bits. 0.52 ulp."""
    m, e = widen(x)
    total = add_scaled(m, e, *scaled_constant(m, number))
    return store_row(*normalise(*total, bits), bits)


@op(Kind.ROW)
def scale(b: Builder, x: Row, *, factor: float, bits: int) -> Row:
    """x [..., n] Row -> x · factor, Row-bits, for a positive factor. Exact for a power of two."""
    return store_row(*normalise(*scale_by_constant(*widen(x), factor), bits), bits)


@scale.define_gradient
def _scale_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(scale, dy, factor=call.attributes["factor"], bits=24)]


@op(Kind.ROW)
def subtract_weighted(b: Builder, x: Row, y: Row, weights: Tensor, *, bits: int) -> Row:
    """x, y [T, n] Row, weights int32 [T, 1] in Q14 -> x - y · weights, Row-bits.

    0 ≤ weight ≤ 2^14. A row of weight 0 is that of x.
    """
    m, e = widen(y)
    least = where(weights.greater(0), e, LEAST_EXPONENT)
    return store_row(
        *normalise(*add_scaled(*widen(x), 0 - m.mulr15(weights << 1), least), bits), bits
    )


@cases(add)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (("residual", (9, 96), 24), ("ragged", (5, 37), 16)):
        yield Case(name, [random_row(rng, shape, 24), random_row(rng, shape, 16)], {"bits": bits})
    far = random_row(rng, (4, 32), 16)
    yield Case(
        "far apart", [Row(far.m, far.e + 100, 16), random_row(rng, (4, 32), 24)], {"bits": 24}
    )

    bias = [random_row(rng, (7, 40), 24), random_row(rng, (1, 40), 16)]
    yield Case("bias", bias, {"bits": 16})


@cases(subtract)
def _difference_cases(rng: np.random.Generator) -> Iterator[Case]:
    bias = random_row(rng, (3, 1, 32), 16)
    yield Case("a row of each head", [random_row(rng, (3, 7, 32), 16), bias], {"bits": 16})


@cases(add_number)
def _number_cases(rng: np.random.Generator) -> Iterator[Case]:
    for number in (1.0, -0.3, 1e-9):
        yield Case(
            f"number {number}", [random_row(rng, (3, 40), 16)], {"number": number, "bits": 16}
        )


@cases(subtract_weighted)
def _subtract_cases(rng: np.random.Generator) -> Iterator[Case]:
    weights = np.array([0, 1, 2**13, 2**14, 2**14], np.int32).reshape(5, 1)
    yield Case(
        "weights",
        [random_row(rng, (5, 37), 30), random_row(rng, (5, 37), 24), weights],
        {"bits": 24},
    )


@cases(scale)
def _scale_cases(rng: np.random.Generator) -> Iterator[Case]:
    for factor in (2.0, 0.7, 1.0):
        yield Case(
            f"factor {factor}", [random_row(rng, (6, 16), 24)], {"factor": factor, "bits": 24}
        )
