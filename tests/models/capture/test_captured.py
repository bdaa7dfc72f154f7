# SPDX-License-Identifier: Apache-2.0
"""The names of a captured model's constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from gsqc.models.capture.captured import add_constant


def test_the_same_numbers_have_one_name() -> None:
    known: dict[str, Any] = {}
    one, other = np.array([1.0]), np.array([2.0])
    names = [add_constant(known, "rope_cos", n) for n in (one, other, one.copy(), other)]
    assert names == ["rope_cos", "rope_cos_1", "rope_cos", "rope_cos_1"]
    assert list(known) == ["rope_cos", "rope_cos_1"]


def test_numbers_that_equal_nothing_get_a_name_too() -> None:
    known: dict[str, Any] = {"rope_cos": np.array([np.nan])}
    assert add_constant(known, "rope_cos", np.array([np.nan])) == "rope_cos_1"
