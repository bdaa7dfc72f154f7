# SPDX-License-Identifier: Apache-2.0
"""Families of other constructs than Llama, as .pt2 and .onnx files: as from their directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.architectures.build import build
from benchmarks.architectures.families import FAMILIES
from gsqc.models.capture import capture_model, run_float
from tests.models.capture.programs.comparisons import assert_same_capture
from tests.models.capture.programs.exports import write_onnx, write_pt2
from tests.models.capture.tiny import TOKENS, tokens

SLOW = pytest.mark.slow
NAMED = ("phi3", "cohere", "olmo2", "glm", "granite")
"""Families whose own names are those of roles."""
OTHERS = ("gpt_neox", "phi", "opt", "starcoder2", "biogpt", "arcee")


@pytest.mark.parametrize(
    "name",
    ["phi3", "cohere", *[pytest.param(n, marks=SLOW) for n in (*NAMED[2:], *OTHERS)]],
)
def test_exported_program(name: str, tmp_path: Path) -> None:
    model = build(next(f for f in FAMILIES if f.name == name))
    write_pt2(model, tmp_path / "tiny.pt2")
    captured = capture_model(str(tmp_path / "tiny.pt2"), TOKENS)
    assert_same_capture(captured, capture_model(model, TOKENS), names=name in NAMED)


def test_a_norm_that_adds_1_has_the_sum_for_a_weight(tmp_path: Path) -> None:
    """The file has no such norm: its addition is computed, as that of any constants."""
    model = build(next(f for f in FAMILIES if f.name == "gemma2"))
    write_pt2(model, tmp_path / "tiny.pt2")
    captured = capture_model(str(tmp_path / "tiny.pt2"), TOKENS)
    expected = capture_model(model, TOKENS)
    name = "model.layers.1.pre_feedforward_layernorm.weight"
    assert np.array_equal(captured.weights.float32(name), expected.weights.float32(name) + 1)
    assert torch.equal(run_float(captured, tokens()), run_float(expected, tokens()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2", "phi3", "gpt_neox", "opt", "cohere"])
def test_onnx(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install 'gsqc[onnx]'")
    model = build(next(f for f in FAMILIES if f.name == name))
    write_onnx(model, tmp_path / "tiny.onnx", "dynamo18")
    captured = capture_model(str(tmp_path / "tiny.onnx"), TOKENS)
    assert captured.check is not None
    assert "of onnxruntime's" in captured.check()
    assert captured.config.layers == 2
