# SPDX-License-Identifier: Apache-2.0
"""Tensors that are made when they are written give the same file, one after another."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load

from gsqc.bundle.tensor_file import LateTensor, tensor_file

ARRAYS = {
    "b": np.arange(64, dtype=np.int8),
    "a": np.arange(96, dtype=np.int32).reshape(3, 32),
    "small": np.array([7], np.int16),
}


def written(tensors: dict[str, np.ndarray | LateTensor]) -> bytes:
    return b"".join(bytes(piece) for piece in tensor_file(tensors))


def test_late_tensors_give_the_same_file() -> None:
    made: list[str] = []

    def make(name: str) -> np.ndarray:
        made.append(name)
        return ARRAYS[name]

    late = {n: LateTensor(a.dtype, a.shape, partial(make, n)) for n, a in ARRAYS.items()}
    content = written(late)
    assert content == written(ARRAYS)
    assert made == ["a", "b", "small"]
    found = load(content)
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


def test_a_tensor_is_made_when_its_turn_comes() -> None:
    made: list[str] = []
    late = {n: LateTensor(a.dtype, a.shape, lambda n=n: made.append(n)) for n, a in ARRAYS.items()}
    next(tensor_file(late))
    assert made == []


def test_another_shape_than_was_said_is_no_file() -> None:
    late = LateTensor(np.dtype(np.int8), (4,), lambda: np.zeros(5, np.int8))
    with pytest.raises(AssertionError, match="wrong"):
        written({"wrong": late})
