# SPDX-License-Identifier: Apache-2.0
"""A stranger's manifest may give an adapter matrices that do not fit its settings or its linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gsqc.adapters import parse_adapter
from gsqc.errors import BundleError
from gsqc.export.adapter import LinearAdapter, TrainedAdapter, merged_weight
from gsqc.export.peft import peft_files

W = np.zeros((32, 32), np.float32)


def _linear(kind: str, **shapes: tuple[int, int]) -> LinearAdapter:
    matrices: dict[str, Any] = {name: np.ones(shape, np.int32) for name, shape in shapes.items()}
    return LinearAdapter(parse_adapter(kind), "layers.0.q_proj", 0, "q", matrices)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("miss:rank=16", {"m": (32, 12)}),
        ("miss:rank=64", {"m": (32, 64)}),
        ("road:group=28", {"c": (1, 16), "s": (1, 16)}),
        ("lora:rank=2", {"a": (2, 32), "b": (8, 8)}),
    ],
)
def test_merging_is_refused(kind: str, shapes: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(BundleError, match="q_proj does not fit its settings"):
        merged_weight(W, _linear(kind, **shapes))


def test_what_fits_is_merged() -> None:
    merged = merged_weight(W, _linear("miss:rank=16", m=(32, 16)))
    np.testing.assert_array_equal(merged, np.full((32, 32), 2.0**-24, np.float32))


def test_a_class_of_peft_is_refused() -> None:
    linear = _linear("road:group=28", c=(1, 16), s=(1, 15))
    adapter = TrainedAdapter((linear,), 1, "llama")
    with pytest.raises(BundleError, match="does not fit its settings"):
        peft_files(adapter)
