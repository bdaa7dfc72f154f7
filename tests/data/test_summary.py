# SPDX-License-Identifier: Apache-2.0
"""Histograms count every record once, in round bins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gsqc.data.summary import Bin, example_numbers, length_histogram


@pytest.mark.parametrize(
    "lengths", [[5], [1, 1], [0, 9], [21, 303, 47], list(range(1, 2000, 7)), [10**6, 3]]
)
def test_every_length_is_in_its_bin(lengths: list[int]) -> None:
    bins = length_histogram(lengths)
    assert 1 <= len(bins) <= 11
    assert all(b.high + 1 == after.low for b, after in pairwise(bins))
    assert [b.records for b in bins] == [sum(b.low <= n <= b.high for n in lengths) for b in bins]
    assert sum(b.records for b in bins) == len(lengths)


def test_bins_are_round() -> None:
    assert length_histogram([21, 303]) == [
        Bin(k * 50, k * 50 + 49, int(n)) for k, n in enumerate(np.array([1, 0, 0, 0, 0, 0, 1]))
    ]
    assert length_histogram([]) == []


def test_examples_are_spread() -> None:
    assert [example_numbers(n) for n in (0, 1, 2, 3, 10)] == [[], [0], [0, 1], [0, 1, 2], [0, 4, 9]]
