# SPDX-License-Identifier: Apache-2.0
"""take_columns and put_columns with the index of a stranger's bundle: it is any int32."""

from __future__ import annotations

from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import evaluate
from gsqc.numerics.ops.some_columns import put_columns, take_columns

LEAST, MOST = -(2**31), 2**31 - 1
M = np.arange(8, dtype=np.int16).reshape(2, 4)


def _row(m: Any) -> Row[Any]:
    return Row(m, np.zeros(len(m), np.int16), 16)


def test_an_index_that_does_not_exist_is_that_of_the_nearest_column() -> None:
    places = np.zeros(4, np.int32)
    index = np.array([LEAST, 1, MOST], np.int32)
    result = evaluate(take_columns, [_row(M), index, places], {})
    np.testing.assert_array_equal(result.m, M[:, [0, 1, 3]])


def test_a_place_that_does_not_exist_is_that_of_the_nearest_column_or_zero() -> None:
    places = np.array([MOST, LEAST, 4, 2], np.int32)
    result = evaluate(put_columns, [_row(M), places], {})
    np.testing.assert_array_equal(result.m, np.stack([[0, 0], M[:, 0], [0, 0], M[:, 2]], 1))
