# SPDX-License-Identifier: Apache-2.0
"""Weights that are stored in another form than linears: there and back again, and what each is."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.models.layouts import TRANSPOSED, Layout

EXPERTS, ROWS, COLUMNS = 3, 8, 5
CASES = {
    "Conv1D": (TRANSPOSED, (ROWS, COLUMNS)),
    "rows": (Layout("rows"), (EXPERTS, ROWS, COLUMNS)),
    "rows of gpt-oss": (Layout("rows", True, True), (EXPERTS, COLUMNS, ROWS)),
    "columns": (Layout("columns"), (EXPERTS, ROWS, COLUMNS)),
    "columns of gpt-oss": (Layout("columns", True), (EXPERTS, COLUMNS, ROWS)),
    "biases": (Layout("vectors", False, True), (EXPERTS, ROWS)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_stored_comes_back(name: str) -> None:
    layout, shape = CASES[name]
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert np.array_equal(layout.stored(layout.of_linear(weight), shape), weight)


def test_the_rows_of_experts_are_those_of_one_linear() -> None:
    """gpt-oss stores [experts, inputs, outputs], with gate and up in turns."""
    layout, shape = CASES["rows of gpt-oss"]
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows = layout.of_linear(weight).reshape(EXPERTS, 2, ROWS // 2, COLUMNS)
    for expert in range(EXPERTS):
        assert np.array_equal(rows[expert, 0], weight[expert, :, 0::2].T)
        assert np.array_equal(rows[expert, 1], weight[expert, :, 1::2].T)


def test_the_columns_of_experts_are_those_of_one_linear() -> None:
    layout, shape = CASES["columns"]
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    columns = layout.of_linear(weight)
    assert columns.shape == (ROWS, EXPERTS * COLUMNS)
    assert np.array_equal(columns[:, COLUMNS : 2 * COLUMNS], weight[1])


def test_the_numbers_of_an_xielu() -> None:
    layout = Layout("softplus", offset=0.5)
    number = np.array([0.3], np.float32)
    used = layout.of_linear(number)
    np.testing.assert_allclose(used, np.log1p(np.exp(0.3)) + 0.5, rtol=1e-6)
    np.testing.assert_allclose(layout.stored(used, (1,)), number, rtol=1e-5)
