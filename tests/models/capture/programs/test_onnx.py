# SPDX-License-Identifier: Apache-2.0
"""Decoders as torch.onnx writes them: the capture is that of the model's directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsqc.models.capture import capture_model, run_float
from tests.models.capture.programs.comparisons import assert_close, assert_same_capture
from tests.models.capture.programs.exports import MODELS, onnx_logits, write_onnx
from tests.models.capture.tiny import TOKENS, tokens

pytest.importorskip("onnxruntime", reason="needs pip install 'gsqc[onnx]'")


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
