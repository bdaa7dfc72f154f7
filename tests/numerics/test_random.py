# SPDX-License-Identifier: Apache-2.0
"""The host's random choices: the same on every machine, and evenly spread."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gsqc.numerics.random import permutation, random_bits, uniform_below

_MULTIPLIERS = (0x6487, 0x7A35, 0x58B7, 0x6C8F)


def feistel31(counter: int, index: int) -> int:
    """The generator in plain Python integers."""
    x = counter ^ index
    high, low = x >> 16, x & 0xFFFF
    for k, multiplier in enumerate(_MULTIPLIERS, 1):
        high, low = low, high ^ (((low ^ (0x9E37 * k & 0xFFFF)) * multiplier >> 11) & 0xFFFF)
    return (high & 0x7FFF) << 16 | low


def reference(seed: int, stream: int, index: int) -> int:
    key = 0
    for part in (seed & 0x7FFFFFFF, seed >> 31 & 0x7FFFFFFF, stream & 0x7FFFFFFF):
        key = feistel31(key, part)
    return feistel31(key, feistel31(0x2B5C, index))


def test_random_bits_equal_plain_integers() -> None:
    index = np.array([0, 1, 2, 1000, 2**31 - 1])
    for seed, stream in ((0, 0), (1, 5), (2**40 + 3, 2**31 - 1)):
        assert random_bits(seed, stream, index).tolist() == [
            reference(seed, stream, int(i)) for i in index
        ]


def test_a_permutation_is_one_and_is_pinned() -> None:
    """Another generator would change the order of the data in every run. Change this knowingly."""
    order = permutation(10, seed=1, stream=0)
    assert sorted(order) == list(range(10))
    assert order == permutation(10, seed=1, stream=0)
    assert (
        len({tuple(permutation(10, seed, stream)) for seed in (1, 2) for stream in (0, 1, 2)}) == 6
    )
    assert order == [1, 2, 4, 9, 8, 3, 0, 5, 6, 7]
    assert permutation(1, 0, 0) == [0]


def test_permutations_are_evenly_spread() -> None:
    firsts = Counter(permutation(5, seed, 0)[0] for seed in range(500))
    assert all(60 < firsts[k] < 140 for k in range(5)), firsts


@pytest.mark.parametrize("limit", [1, 2, 3, 1000, 2**31 - 1, 2**31, 2**31 + 1, 3 * 10**40])
def test_uniform_below_stays_below(limit: int) -> None:
    draws = [uniform_below(limit, seed=5, stream=k) for k in range(50)]
    assert all(0 <= d < limit for d in draws)
    if limit > 10**6:
        assert len(set(draws)) == len(draws)
        assert max(draws) > limit // 2 > min(draws)


def test_uniform_below_is_evenly_spread() -> None:
    counts = Counter(uniform_below(3, seed=9, stream=k) for k in range(600))
    assert all(150 < counts[k] < 250 for k in range(3)), counts
