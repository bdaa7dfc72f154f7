# SPDX-License-Identifier: Apache-2.0
"""Decoders of onnxruntime's own operators, and their 4-bit codes.

onnxruntime, asked for float32 activations, is the reference of logits. Of codes it is gguf, the
package of llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs pip install 'gsqc[onnx]'")

import gguf
import onnx

from gsqc.errors import ModelError
from gsqc.models.base_codes import base_codes
from gsqc.models.capture import capture_model, run_float
from tests.models.capture.programs.comparisons import assert_close
from tests.models.capture.programs.exports import onnx_logits
from tests.models.capture.programs.genai import write_genai
from tests.models.capture.tiny import TOKENS, tiny_llama, tokens

LINEARS = {
    "qkv0": "model.layers.0.self_attn.qkv_proj.weight",
    "o1": "model.layers.1.self_attn.o_proj.weight",
    "down1": "model.layers.1.mlp.down_proj.weight",
}


@pytest.mark.parametrize("codes", [None, "even", "other"])
def test_logits_are_those_of_onnxruntime(codes: str | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_genai(tiny_llama(), path, codes)
    captured = capture_model(str(path), TOKENS)
    assert_close(run_float(captured, tokens()).detach(), onnx_logits(path, tokens()))
    assert captured.config.tied_embeddings
    assert captured.metadata["name"] == tmp_path.name


@pytest.mark.parametrize("codes", ["even", "other"])
def test_codes_are_kept(codes: str, tmp_path: Path) -> None:
    """A code and its scale as float16 give gguf's number, bit for bit."""
    path = tmp_path / "model.onnx"
    written = write_genai(tiny_llama(), path, codes)
    weights = capture_model(str(path), TOKENS).weights
    kind = "q4_0" if codes == "even" else "q4_1"
    for short, name in LINEARS.items():
        numbers, scales, zeros = written[short]
        assert weights.code_kind(name) == kind
        raw = weights.raw_blocks(name)
        d = scales.astype(np.float16).astype(np.float32)[..., None]
        m = (-scales * zeros).astype(np.float16).astype(np.float32)[..., None]
        blocks = numbers.reshape(*scales.shape, -1).astype(np.float32)
        expected = (blocks - 8) * d if codes == "even" else blocks * d + m
        found = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind.upper()])
        assert np.array_equal(found.reshape(expected.shape), expected)
        assert base_codes(weights, name, kind).lost == 0


def test_scales_that_are_rounded_are_told(tmp_path: Path) -> None:
    write_genai(tiny_llama(), tmp_path / "model.onnx", "even")
    (note,) = capture_model(str(tmp_path / "model.onnx"), TOKENS).metadata["notes"]
    assert "rounded to float16" in note


def _changed(path: Path, change: Any) -> str:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return str(path)


def _set(graph: Any, kind: str, name: str, value: Any) -> None:
    for node in graph.node:
        if node.op_type == kind:
            node.attribute.append(onnx.helper.make_attribute(name, value))


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("GroupQueryAttention", "smooth_softmax", 1, "attention sinks"),
        ("MatMulNBits", "bits", 2, "codes of 2 bits"),
    ],
)
def test_refusal_names_the_construct(
    kind: str, name: str, value: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    write_genai(tiny_llama(), path, "even")

    def change(graph: Any) -> None:
        for node in graph.node:
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend(kept)
        _set(graph, kind, name, value)

    with pytest.raises(ModelError, match=said):
        capture_model(_changed(path, change), TOKENS)


def test_a_window_and_a_softcap_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_genai(tiny_llama(), path)

    def change(graph: Any) -> None:
        _set(graph, "GroupQueryAttention", "local_window_size", 4)
        _set(graph, "GroupQueryAttention", "softcap", 20.0)

    captured = capture_model(_changed(path, change), TOKENS)
    (first, _) = [n.kwargs for n in captured.graph.nodes if "window" in n.kwargs]
    assert (first["window"], first["cap"]) == (4, 20.0)
    assert_close(run_float(captured, tokens()).detach(), onnx_logits(path, tokens()))
