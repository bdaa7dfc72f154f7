# SPDX-License-Identifier: Apache-2.0
"""The digest of a training state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def _tensor_digests(tensors: list[tuple[str, Array]]) -> list[tuple[str, str]]:
    return [(name, hashlib.sha256(tensor.data).hexdigest()) for name, tensor in tensors]


def state_digest(tensors: Mapping[str, Array], step: int, workers: int) -> str:
    """The sha256 over the step and then, in the given order, each tensor's name, type, size and
    own sha256. `workers` threads hash the tensors.
    """
    state = list(tensors.items())
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(_tensor_digests, (state[k::workers] for k in range(workers)))
        by_name = dict(entry for part in parts for entry in part)
    lines = [f"{name} {tensor.dtype.str} {tensor.size} {by_name[name]}" for name, tensor in state]
    return hashlib.sha256("\n".join([f"step {step}", *lines]).encode()).hexdigest()
