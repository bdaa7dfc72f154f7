# SPDX-License-Identifier: Apache-2.0
"""The two orders of the rows of q and k."""

from __future__ import annotations

import numpy as np

from gsqc.models.readers.rope_order import pair_order, split_half_order


def test_pairs_become_neighbours() -> None:
    """Head by head: the rows that turn together, (j, j + D/2), stand at (2j, 2j + 1)."""
    rows = np.arange(12)
    np.testing.assert_array_equal(pair_order(rows, 2), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])


def test_the_orders_are_inverse() -> None:
    rows = np.random.default_rng(0).standard_normal((24, 5))
    np.testing.assert_array_equal(split_half_order(pair_order(rows, 3), 3), rows)
    np.testing.assert_array_equal(pair_order(split_half_order(rows, 3), 3), rows)
