# SPDX-License-Identifier: Apache-2.0
"""Models that other programs read otherwise than one thinks: right, or refused with a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import gsqc
from gsqc.adapters.lora import Lora
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.errors import ModelError
from tests.models.capture.tiny import tiny_llama

COMPILE = ("--target", "numpy", "--seq", "8", "--adapter", "lora:rank=2,linears=q")


@pytest.fixture
def folder(model_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_directory, tmp_path / "model"))


def test_a_number_that_is_none_in_a_table(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][3, 5] = np.nan
    save_file(tensors, folder / "model.safetensors")
    assert main(["compile", str(folder), "-o", str(tmp_path / "b.gsqc"), *COMPILE]) == 2
    error = capsys.readouterr().err
    assert "error: model.embed_tokens.weight holds infinities or NaN" in error
    assert not (tmp_path / "b.gsqc").exists()


def test_a_model_without_a_tokenizer_says_so_first(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    assert main(["compile", str(folder), "-o", str(tmp_path / "b.gsqc"), *COMPILE]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("tokenizer: none: the directory has no tokenizer.json.")
    assert any("wrote" in line for line in others)
    place = tmp_path / "c.gsqc"
    with pytest.warns(UserWarning, match="tokenizer: none") as told:
        gsqc.compile(folder, place, target="numpy", seq=8, adapter="lora:rank=2,linears=q")
    assert told[0].filename == __file__


class WithActivation(torch.nn.Module):
    """An embedding, and an activation function behind it."""

    def __init__(self, embedding: torch.nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The rows of the tokens, changed."""
        return torch.nn.functional.silu(self.embedding(tokens))


def test_what_stands_outside_of_blocks_is_not_left_out(tmp_path: Path) -> None:
    """What stands behind the embedding was once left out without a word."""
    model = tiny_llama(tie_word_embeddings=False)
    model.model.embed_tokens = WithActivation(model.model.embed_tokens)
    options = CompileOptions(tmp_path / "b.gsqc", "numpy", adapter=Lora(2, 4), sequence_length=24)
    with pytest.raises(ModelError, match=r"the embedding ends with silu \(.*test_odd_models"):
        compile_model(model, options)
