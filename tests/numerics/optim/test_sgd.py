# SPDX-License-Identifier: Apache-2.0
"""sgd against float64, and the integers that a schedule gives to a step."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gsqc.numerics.optim.adamw import BETA2, correction_at
from gsqc.numerics.optim.moments import BETA1
from gsqc.numerics.optim.schedule_inputs import scalar_inputs, split
from gsqc.numerics.optim.sgd import Sgd
from tests.numerics.optim.test_adamw import IntegerOptimizer, gradients, on_grid, start


def test_twenty_steps() -> None:
    """Each update within 0.6 steps of 2^-24 (its rounding) and 1e-7 of itself."""
    rng = np.random.default_rng(1)
    p = start(rng)
    ours = IntegerOptimizer(Sgd(), p)
    reference, momentum = p * 2.0**-24, np.zeros(p.shape)
    rate, decay = 0.25, Fraction(1, 128)
    for g in gradients(rng, 20):
        grid, exact = on_grid(g)
        got = ours.step(grid, Fraction(rate), decay)
        momentum = BETA1 / 2**31 * momentum + exact
        update = rate * (momentum + float(decay) * reference)
        reference = reference - update
        row = np.abs(update).max(1, keepdims=True)
        assert (np.abs(got - update) <= 0.6 * 2.0**-24 + 1e-7 * row).all()


def test_diverging_weights_saturate() -> None:
    p = np.full((1, 2), 2**30 - 1, np.int32)
    ours = IntegerOptimizer(Sgd(), p)
    ours.step(np.array([[-(2**50), 2**50]]), Fraction(100), Fraction(0))
    assert ours.p[0, 0] == 2**30 - 1
    assert ours.p[0, 1] == 2**30 - 1 - 2 * 2**24


@pytest.mark.parametrize(
    "value",
    [Fraction(1), Fraction(1, 3), Fraction(10**9, 7), Fraction(1, 10**12), 1 - Fraction(1, 2**40)],
)
def test_split(value: Fraction) -> None:
    m, e = split(value)
    assert 2**29 <= m < 2**30
    assert abs(m * Fraction(2) ** e - value) <= value * Fraction(1, 2**30)


def test_split_zero() -> None:
    assert split(Fraction(0)) == (0, 0)


@pytest.mark.parametrize("step", [1, 2, 10, 1000, 10**6])
def test_correction(step: int) -> None:
    b1, b2 = BETA1 / 2**31, BETA2 / 2**31
    expected = math.sqrt(-math.expm1(step * math.log(b2))) / -math.expm1(step * math.log(b1))
    assert float(correction_at(step)) == pytest.approx(expected, rel=1e-12)


def test_scalar_inputs() -> None:
    inputs = scalar_inputs(Fraction(2, 1000), Fraction(1, 10000), 3 << 14)
    value = lambda name: inputs[f"{name}_m"] * 2.0 ** inputs[f"{name}_e"]  # noqa: E731
    assert value("inverse_tokens") == pytest.approx(1 / 3, rel=1e-9)
    assert value("learning_rate") == pytest.approx(2e-3, rel=1e-9)
    assert value("decay") == pytest.approx(1e-4, rel=1e-9)
    assert scalar_inputs(Fraction(1), Fraction(0), 0)["inverse_tokens_m"] == 0
