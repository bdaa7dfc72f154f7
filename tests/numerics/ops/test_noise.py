# SPDX-License-Identifier: Apache-2.0
"""noise: fixed values, and the statistics of the adapter's initial values."""

from __future__ import annotations

import math

import numpy as np

from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.ops.noise import noise, uniform_q24


def test_a_permutation_of_its_input() -> None:
    b = NumpyBuilder()
    high, low = noise(b, b.const(12345, 1), b.iota((2**16,), 0))
    joined = (high.data.astype(np.int64) << 16) | low.data
    assert len(np.unique(joined)) == 2**16
    assert joined.min() >= 0
    assert joined.max() < 2**32


def test_fixed_values() -> None:
    """Initial adapters must not change between versions: a saved seed would mean something else."""
    assert uniform_q24(1, 2, (2, 2), 16).tolist() == [[-1397412, 1166513], [3423510, -2893132]]


def test_uniform() -> None:
    """Mean, variance and a chi-squared over 64 bins.

    With 63 degrees of freedom it passes 120 once in 10^5 times.
    """
    count, bound = 2**16, math.isqrt(2**48 // 576)
    x = uniform_q24(7, 0, (count // 64, 64), 576).astype(np.float64).ravel()
    assert np.abs(x).max() <= bound
    assert abs(x.mean()) < 4 * bound / math.sqrt(3 * count)
    assert abs(x.var() / (bound**2 / 3) - 1) < 0.02
    bins = np.histogram(x, 64, (-bound - 0.5, bound + 0.5))[0]
    assert ((bins - count / 64) ** 2).sum() / (count / 64) < 120


def test_streams_and_seeds_are_independent() -> None:
    shape, count = (64, 256), 64 * 256
    reference = uniform_q24(0, 0, shape, 64).astype(np.float64).ravel()
    for seed, stream in ((0, 1), (1, 0), (1, 1), (2**31, 0), (0, 199)):
        other = uniform_q24(seed, stream, shape, 64).astype(np.float64).ravel()
        assert abs(np.corrcoef(reference, other)[0, 1]) < 4.5 / math.sqrt(count)
        assert len(np.intersect1d(reference, other)) < count * 0.01 + 200
    for lag in (1, 2, 64, 256):
        assert abs(np.corrcoef(reference[:-lag], reference[lag:])[0, 1]) < 4.5 / math.sqrt(count)
