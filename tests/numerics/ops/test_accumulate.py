# SPDX-License-Identifier: Apache-2.0
"""accumulate against Python's integers: rounded once, exact sums, any order."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from gsqc.limits import MAXIMUM_SEQUENCES
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.ops.accumulate import (
    GRID_FRACTION_BITS,
    LIMB_BITS,
    mean_gradient,
    random_limbs,
)
from gsqc.numerics.ops.registry import CASES, OPS, Case, evaluate
from gsqc.numerics.optim.schedule_inputs import split


def on_grid(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high.astype(np.int64) << LIMB_BITS) + low


def expected_part(c: int, exponent: int) -> int:
    limit = (1 << 24) - 1
    value = floor(Fraction(c) * Fraction(2) ** (exponent + GRID_FRACTION_BITS) + Fraction(1, 2))
    high = min(max(value >> LIMB_BITS, -limit), limit)
    return value if high == value >> LIMB_BITS else high << LIMB_BITS


def test_equals_integers() -> None:
    """Equal inside the range. Beyond it the high limb saturates."""
    for case in CASES["accumulate_gradient"](np.random.default_rng(1)):
        c, row_e, column_e, high, low = case.values
        new_high, new_low = evaluate(OPS["accumulate_gradient"], case.values, case.attributes)
        exponent = np.broadcast_to(row_e + column_e + case.attributes["offset"], c.shape)
        part = np.vectorize(expected_part, otypes=[np.int64])(
            c.astype(object), exponent.astype(object)
        )
        difference = on_grid(new_high, new_low) - on_grid(high, low) - part
        saturated = np.abs(part) >= (2**24 - 1) << LIMB_BITS
        assert not difference[~saturated].any(), case.name
        assert (np.abs(difference) < 2**LIMB_BITS).all()
        assert new_low.min() >= 0
        assert new_low.max() < 2**LIMB_BITS


def test_any_order_gives_the_same_sum() -> None:
    rng = np.random.default_rng(2)
    shape = (4, 9)
    parts = [
        [
            rng.integers(1 - 2**30, 2**30, shape, dtype=np.int32),
            *(rng.integers(-30, -10, s, dtype=np.int32) for s in ((4, 1), (1, 9))),
        ]
        for _ in range(12)
    ]
    sums = []
    for order in (range(12), reversed(range(12)), rng.permutation(12)):
        limbs = [np.zeros(shape, np.int32)] * 2
        for k in order:
            limbs = list(evaluate(OPS["accumulate_gradient"], [*parts[k], *limbs], {"offset": -9}))
        sums.append(limbs)
    for other in sums[1:]:
        np.testing.assert_array_equal(sums[0], other)


def test_the_largest_batch_fits() -> None:
    """The evaluator would assert an overflow."""
    for sign in (-1, 1):
        c = np.full((1, 2), sign * (2**30 - 1), np.int32)
        limbs = [np.zeros((1, 2), np.int32)] * 2
        scale = [np.array([[40]], np.int32), np.array([[0, -20]], np.int32)]
        for _ in range(MAXIMUM_SEQUENCES):
            limbs = list(evaluate(OPS["accumulate_gradient"], [c, *scale, *limbs], {"offset": 0}))
        assert abs(int(limbs[0][0, 0])) >= MAXIMUM_SEQUENCES * (2**24 - 1) - 1


def test_mean_gradient() -> None:
    """Three roundings at 29 bits of the row's largest number: up to half of 2^-28 each."""
    b = NumpyBuilder()
    for octaves, tokens in ((24, 7), (30, 300), (3, 1)):
        limbs = random_limbs(np.random.default_rng(octaves), (8, 21), octaves)
        m, e = split(Fraction(1, tokens))
        scalars = [np.array([[v]], np.int32) for v in (m, e)]
        got, got_e = mean_gradient(*(b.tensor(x) for x in (*limbs, *scalars)))
        expected = on_grid(*limbs) * 2.0**-GRID_FRACTION_BITS / tokens
        error = np.abs(np.ldexp(got.data.astype(np.float64), got_e.data) - expected)
        assert (error <= np.abs(expected).max(1, keepdims=True) * 1.5 * 2**-28).all()


def test_linear_accumulate_is_its_parts() -> None:
    (case,) = CASES["linear_accumulate"](np.random.default_rng(3))
    assert isinstance(case, Case)
    high, low = evaluate(OPS["linear_accumulate"], case.values, case.attributes)
    added = (on_grid(high, low) - on_grid(*case.values[2:])) * 2.0**-GRID_FRACTION_BITS
    exact = evaluate(OPS["linear"], case.values[:2], {**case.attributes, "bits": 30})
    expected = np.ldexp(exact.m.astype(np.float64), exact.e)
    inside = np.abs(expected) < 4096
    tolerance = np.maximum(np.exp2(exact.e.astype(np.float64)), 2.0**-GRID_FRACTION_BITS)
    assert (np.abs(added - expected) <= tolerance)[inside].all()
