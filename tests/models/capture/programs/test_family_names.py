# SPDX-License-Identifier: Apache-2.0
"""Names of the weights of a program's file that has a config.json beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.models import model_ops
from gsqc.models.capture import CapturedModel, capture_model
from tests.models.capture.programs.comparisons import assert_same_capture
from tests.models.capture.programs.exports import write_pt2
from tests.models.capture.tiny import TOKENS

SLOW = pytest.mark.slow
FAMILIES = ("qwen2", "gpt2", "phi", "gemma", "phi3")
MORE = ("gpt_neox", "opt", "starcoder2", "qwen3", "gemma2", "biogpt")


def captured(name: str, folder: Path, config: str = "") -> CapturedModel:
    """A tiny model's .pt2 file, with the config.json of a family beside it."""
    model = build(BY_NAME[name])
    write_pt2(model, folder / "tiny.pt2")
    if config:
        build(BY_NAME[config]).config.save_pretrained(folder)
    return capture_model(str(folder / "tiny.pt2"), TOKENS)


def _linears(captured: CapturedModel) -> list[Any]:
    return [n for n in captured.graph.nodes if n.target is model_ops.linear]


@pytest.mark.parametrize("name", [*FAMILIES, *[pytest.param(n, marks=SLOW) for n in MORE]])
def test_names_are_those_of_the_family(name: str, tmp_path: Path) -> None:
    """The weights have transformers' names, and under each the numbers of transformers' weight.

    But for norms that add 1: of these the file has the sum.
    """
    found, expected = captured(name, tmp_path, name), capture_model(build(BY_NAME[name]), TOKENS)
    assert found.config.architecture == name
    assert set(found.weights.names()) == {
        n.meta["parameter"] for n in expected.graph.nodes if "parameter" in n.meta
    }
    for parameter in found.weights.names():
        mine, theirs = (c.weights.float32(parameter) for c in (found, expected))
        if mine.ndim > 1 or not name.startswith("gemma"):
            assert np.array_equal(mine, theirs), parameter
    mine, theirs = (
        {n.meta["module"] for n in _linears(c) if n.meta["block"] is not None}
        for c in (found, expected)
    )
    assert mine == theirs


def test_all_of_a_gpt2_is_as_from_its_directory(tmp_path: Path) -> None:
    found = captured("gpt2", tmp_path, "gpt2")
    assert_same_capture(found, capture_model(build(BY_NAME["gpt2"]), TOKENS), names=True)


def test_a_file_of_other_matrices_than_the_family_has_no_family(tmp_path: Path) -> None:
    """A Llama has q, k and v in three matrices, a Phi 3 in one."""
    found = captured("llama", tmp_path, "phi3")
    assert found.config.architecture == "pt2"
    assert "model.layers.0.self_attn.q_proj.weight" in found.weights.names()
