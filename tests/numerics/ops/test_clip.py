# SPDX-License-Identifier: Apache-2.0
"""The norm of a gradient and the scale that limits it, against floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gsqc.numerics.formats import Row
from gsqc.numerics.ops.accumulate import GRID_FRACTION_BITS, LIMB_BITS, random_limbs
from gsqc.numerics.ops.clip import add_squares, clip_scale, row_squares
from gsqc.numerics.ops.registry import evaluate

ERROR = 2.0**-24
"""The relative error. Squares carry 28 bits of a row's largest, and a sum 29. So it is 2^-26 for a
matrix, and a few matrices are added.
"""


def square_sum(limbs: list[list[np.ndarray]]) -> Row:
    total = Row(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32), 30)
    for high, low in limbs:
        rows = evaluate(row_squares, [high, low], {})
        total = evaluate(
            add_squares, [Row(rows.m.reshape(1, -1), rows.e.reshape(1, -1), 30), total], {}
        )
    return total


def value(m: np.ndarray, e: np.ndarray) -> float:
    return math.ldexp(int(m[0, 0]), int(e[0, 0]))


def as_float(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high.astype(np.float64) * 2.0**LIMB_BITS + low) * 2.0**-GRID_FRACTION_BITS


@pytest.mark.parametrize("octaves", [2, 12, 24, 30])
def test_the_norm_is_that_of_floats(octaves: int) -> None:
    rng = np.random.default_rng(octaves)
    limbs = [random_limbs(rng, shape, octaves) for shape in ((8, 40), (60, 8), (8, 96), (1, 5))]
    total = square_sum(limbs)
    expected = sum((as_float(*pair) ** 2).sum() for pair in limbs)
    assert abs(value(total.m, total.e) / expected - 1) < ERROR


@pytest.mark.parametrize("clip", [1e-6, 0.5, 1.0, 30.0, 1e5])
def test_the_scale_is_the_smaller_of_two(clip: float) -> None:
    rng = np.random.default_rng(3)
    limbs = [random_limbs(rng, (8, 40), 16)]
    norm = math.sqrt(sum((as_float(*pair) ** 2).sum() for pair in limbs))
    numbers = []
    for number in (1 / 256, clip):
        fraction, exponent = math.frexp(number)
        numbers += [
            np.array([[v]], np.int32)
            for v in (min(round(fraction * 2**30), 2**30 - 1), exponent - 30)
        ]
    m, e = evaluate(clip_scale, [square_sum(limbs), *numbers], {})
    assert 2**29 <= m[0, 0] < 2**30
    assert abs(value(m, e) / min(1 / 256, clip / norm) - 1) < ERROR
    if clip / norm > 1 / 256:
        assert (m, e) == (numbers[0], numbers[1]), "left as it was, bit for bit"


def test_a_zero_gradient_is_not_scaled() -> None:
    zero = np.zeros((4, 5), np.int32)
    inverse = [np.array([[v]], np.int32) for v in (2**29, -37)]
    assert evaluate(clip_scale, [square_sum([[zero, zero]]), *inverse, *inverse], {}) == tuple(
        inverse
    )
