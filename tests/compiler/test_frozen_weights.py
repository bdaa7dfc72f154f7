# SPDX-License-Identifier: Apache-2.0
"""Frozen weights are read and coded one after another: a model of 7B need not fit into memory."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.bundle.tensor_file import tensor_file
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.models.capture import capture_model
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.passes.step import Step, StepOptions


class Counted:
    """A source of weights that counts what is read of it."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights
        self.reads: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.weights, name)

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        self.reads[name] += 1
        return self.weights.float32(name)


def test_a_weight_is_read_when_it_is_written() -> None:
    captured = capture_model(build(BY_NAME["llama"]), 24)
    source = Counted(captured.weights)
    weights: Any = FrozenWeights(cast("Any", source), "nf4")
    step = outline_blocks(Step(captured.graph, weights.codes_of, cast("StepOptions", None)))
    tensors = weights.tensors(step.parts, captured.constants)
    known = Counter(source.reads)
    assert known and all(".layers.0." in name for name in known)  # one of each, for its shape
    list(tensor_file(tensors))
    assert set(source.reads) == set(captured.weights.names())
    # Arrays that begin at a multiple of 64 bytes come first, and the few others after all of them.
    assert max((source.reads - known).values()) <= 2
