# SPDX-License-Identifier: Apache-2.0
"""A bundle from an .onnx file of onnxruntime-genai's form: 4-bit codes, and equal digests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import ExportError
from gsqc.export.merge import open_base
from gsqc.runtime.session import Session
from tests.models.capture.programs.exports import onnx_logits
from tests.models.capture.programs.genai import write_genai
from tests.models.capture.tiny import TOKENS, tiny_llama, tokens

LOSS_BOUND = 0.003
"""Of a bundle's loss against the float model's on the same weights (docs/models.md)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_genai(tiny_llama(), path, "even")
    return path


def compiled(model: Path, output: Path, target: str) -> Path:
    options = CompileOptions(
        output, base="gguf", adapter=Lora(4, 8), sequence_length=TOKENS, target=target
    )
    said: list[str] = []
    compile_model(str(model), options, note=said.append)
    assert any(line.startswith("checked: the logits are within") for line in said)
    return output


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    return compiled(model, model.parent / "b.gsqc", "numpy")


@pytest.mark.slow
@pytest.mark.needs_target("llvm")
def test_native_and_numpy_are_equal(model: Path, tmp_path: Path) -> None:
    result = run_check(compiled(model, tmp_path / "n.gsqc", "native"), ["numpy", "native"], 2)
    assert result.equal, result


def test_codes_are_those_of_the_file(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    kinds = {kind for name, kind in manifest.base_kinds.items() if name.endswith("_proj.weight")}
    assert kinds == {"q4_0"}
    assert manifest.base_losses == {}


def test_loss_is_that_of_onnxruntime(model: Path, bundle: Path) -> None:
    ids = tokens()
    logits = onnx_logits(model, ids).double().numpy()
    shifted = logits - logits.max(-1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    expected = -float(np.mean([log[k, ids[k + 1]] for k in range(len(ids) - 1)]))
    assert abs(_loss(bundle, ids.tolist()) - expected) < LOSS_BOUND


def _loss(bundle: Path, row: list[int]) -> float:
    """The mean loss of predicting each token of a row from those before it."""
    labels = np.array([*row[1:], 0], np.int32)
    weights = np.full(len(row), WEIGHT_ONE, np.int32)
    weights[-1] = 0
    sequence = TokenSequence(np.array(row, np.int32), labels, weights)
    return float(Session(bundle).evaluate([sequence]).loss)


def test_a_merged_model_is_refused(model: Path, bundle: Path) -> None:
    with pytest.raises(ExportError, match="no configuration"):
        open_base(Bundle.open(bundle), str(model))


@pytest.mark.slow
def test_plan_knows_the_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(model), "--seq", str(TOKENS)]) == 0
    assert "peak" in capsys.readouterr().out
