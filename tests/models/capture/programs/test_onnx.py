# SPDX-License-Identifier: Apache-2.0
"""Decoders as torch.onnx writes them: the capture is that of the model's directory.

The tolerance is 1e-5 of the logits' size: both are float32 sums of the same terms in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsqc.models.capture import CapturedModel, capture_model, run_float
from tests.models.capture.programs.exports import (
    MODELS,
    onnx_logits,
    tiny_gpt2,
    write_onnx,
    write_pt2,
)
from tests.models.capture.tiny import TOKENS, tiny_llama, tokens

pytest.importorskip("onnxruntime")


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


def calls(captured: CapturedModel) -> list[Any]:
    """The calls with their settings, shapes, layers, and the names of their parameters."""
    return [
        (
            n.target.__name__,
            n.kwargs,
            n.meta["shape"],
            n.meta["block"],
            [a.meta["parameter"] for a in n.all_input_nodes if "parameter" in a.meta],
        )
        for n in captured.graph.nodes
        if n.op == "call_function"
    ]


def assert_same_capture(found: CapturedModel, expected: CapturedModel, *, names: bool) -> None:
    """The same calls on the same numbers. Then all of a bundle is the same."""
    mine, theirs = calls(found), calls(expected)
    if not names:
        mine, theirs = ([call[:4] for call in part] for part in (mine, theirs))
    assert mine == theirs
    assert found.constants.keys() == expected.constants.keys()
    for name, table in expected.constants.items():
        assert np.array_equal(found.constants[name], table)
    held = [[n for n in c.graph.nodes if "parameter" in n.meta] for c in (found, expected)]
    for a, b in zip(*held, strict=True):
        mine, theirs = (
            c.weights.float32(n.meta["parameter"]) for c, n in ((found, a), (expected, b))
        )
        assert np.array_equal(mine, theirs)


SLOW = pytest.mark.slow
FORMS = [
    pytest.param("llama", "dynamo23"),
    pytest.param("llama", "cached"),
    pytest.param("qwen3", "dynamo18"),
    pytest.param("gpt2", "legacy"),
    *[
        pytest.param(model, form, marks=SLOW)
        for model, form in (
            ("llama", "legacy"),
            ("llama", "dynamo18"),
            ("qwen3", "legacy"),
            ("qwen3", "dynamo23"),
            ("gpt2", "dynamo18"),
            ("gpt2", "dynamo23"),
        )
    ],
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_capture_is_that_of_the_directory(name: str, form: str, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "tiny.onnx"
    write_onnx(model, path, form)
    captured = capture_model(str(path), TOKENS)
    assert_close(run_float(captured, tokens()).detach(), onnx_logits(path, tokens()))
    assert_same_capture(captured, capture_model(model, TOKENS), names=name != "gpt2")
    assert captured.check is not None
    assert captured.check().startswith("checked: the logits are within ")


@pytest.mark.parametrize("name", [*MODELS])
@pytest.mark.parametrize("decomposed", [False, True], ids=["training", "core"])
def test_exported_program_is_that_of_the_directory(
    name: str, decomposed: bool, tmp_path: Path
) -> None:
    model, path = MODELS[name](), tmp_path / "tiny.pt2"
    write_pt2(model, path, decomposed=decomposed)
    captured = capture_model(str(path), TOKENS)
    assert_same_capture(captured, capture_model(model, TOKENS), names=name != "gpt2")
    assert captured.check is not None
    assert "of torch's run of the file" in captured.check()


def test_names_are_those_of_roles(tmp_path: Path) -> None:
    write_pt2(tiny_gpt2(), tmp_path / "tiny.pt2")
    names = capture_model(str(tmp_path / "tiny.pt2"), TOKENS).weights.names()
    linears = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    norms = ("input_layernorm", "post_attention_layernorm")
    expected = {f"model.layers.{k}.{part}" for k in range(2) for part in (*linears, *norms)}
    named = {n.removesuffix(".weight").removesuffix(".bias") for n in names}
    assert named == expected | {"model.embed_tokens", "model.embed_positions", "model.norm"}


def test_an_untied_head_of_other_numbers_stays_one(tmp_path: Path) -> None:
    model = tiny_llama(tie_word_embeddings=False)
    write_pt2(model, tmp_path / "tiny.pt2")
    captured = capture_model(str(tmp_path / "tiny.pt2"), TOKENS)
    assert not captured.config.tied_embeddings
    assert "lm_head.weight" in captured.weights.names()
