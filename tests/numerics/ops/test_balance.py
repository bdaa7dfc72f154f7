# SPDX-License-Identifier: Apache-2.0
"""Columns shifted before they are quantised: against exact fractions, and a product that stays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gsqc.numerics.formats import Row
from gsqc.numerics.ops.quantise import MOST_SHIFT, quantise, random_row
from gsqc.numerics.ops.registry import OPS, evaluate

LIMIT = 2**23 - 1
"""The largest mantissa of 24 bits."""


def by_hand(x: Row, shifts: np.ndarray, *, up: bool) -> Row:
    """x · 2^±shifts in exact fractions, rounded half up once if 24 bits do not hold it."""
    drop = max(0, x.bits - 24 + (MOST_SHIFT if up else 0))
    half, unit = Fraction(1, 2), Fraction(1, 2**drop)
    rows = [
        [
            int((int(m) * Fraction(2) ** (int(k) if up else -int(k)) * unit + half) // 1)
            for m, k in zip(row, shifts[0], strict=True)
        ]
        for row in x.m
    ]
    m = np.clip(np.array(rows), -LIMIT, LIMIT).astype(np.int32)
    return Row(m, (x.e + drop).astype(np.int32), 24)


def shifts_of(rng: np.random.Generator, columns: int) -> np.ndarray:
    return rng.integers(0, MOST_SHIFT + 1, (1, columns)).astype(np.int8)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("width", [16, 17, 20, 24, 30])
@pytest.mark.parametrize("columns", [16, 64, 75])
def test_columns_are_shifted_before_they_are_rotated(width: int, up: bool, columns: int) -> None:
    rng = np.random.default_rng(width + columns)
    for bits in (5, 6, 8):
        x, shifts = random_row(rng, (24, columns), width), shifts_of(rng, columns)
        got = evaluate(quantise, [x, shifts], {"bits": bits, "up": up})
        wanted = evaluate(quantise, [by_hand(x, shifts, up=up)], {"bits": bits})
        for name in ("m", "d", "e"):
            assert np.array_equal(getattr(got, name), getattr(wanted, name))


@pytest.mark.parametrize("width", [16, 30])
def test_no_shifts_are_no_change(width: int) -> None:
    rng = np.random.default_rng(3)
    x = random_row(rng, (8, 96), width)
    plain = evaluate(quantise, [x], {"bits": 6})
    for up in (True, False) if width == 16 else (False,):
        got = evaluate(quantise, [x, np.zeros((1, 96), np.int8)], {"bits": 6, "up": up})
        for name in ("m", "d", "e"):
            assert np.array_equal(getattr(got, name), getattr(plain, name))


def test_a_strong_column_costs_the_others_less() -> None:
    """One column of x is 2^6 as strong, and that of w 2^-6: balance makes them alike."""
    rng = np.random.default_rng(5)
    strong = np.zeros(64, np.int64)
    strong[5] = 6
    x = rng.integers(-400, 401, (40, 64)) << strong
    w = (rng.integers(-(2**28), 2**28, (30, 64))) >> strong
    exact = x.astype(np.float64) @ w.T
    rows = [Row(x.astype(np.int16), np.zeros((40, 1), np.int32), 16)]
    rows += [Row(w.astype(np.int32), np.zeros((30, 1), np.int32), 30)]
    shifts = (6 - strong)[None].astype(np.int8)
    widths = {"x_bits": 5, "w_bits": 5, "bits": 24}
    errors = []
    for values in ([*rows], [*rows, shifts]):
        y = evaluate(OPS["linear"], values, widths)
        errors.append(np.abs(y.m * 2.0**y.e - exact).mean())
    assert errors[1] < errors[0] / 2


def test_columns_with_exponents_of_their_own_are_not_shifted() -> None:
    x = random_row(np.random.default_rng(1), (4, 32), 16, column=True)
    with pytest.raises(AssertionError, match="the axis that shares an exponent"):
        evaluate(quantise, [x, np.zeros((1, 32), np.int8)], {"bits": 8})
