# SPDX-License-Identifier: Apache-2.0
"""What is no directory of a decoder with float weights is refused by what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from gsqc.errors import ModelError
from gsqc.models import load_model

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
    "vocab_size": 64,
}  # fmt: skip


@pytest.fixture
def folder(model_directory: Path, tmp_path: Path) -> Path:
    """A model's directory that a test may change."""
    return Path(shutil.copytree(model_directory, tmp_path / "model"))


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(place: Path) -> ModelError:
    with pytest.raises(ModelError) as error:
        load_model(place)
    return error.value


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("quantization_config", {"quant_method": "gptq"}, "quantised checkpoint (gptq)"),
        ("quantization_config", 7, "quantised checkpoint"),
        ("quantization", {"group_size": 64, "bits": 4}, "quantised checkpoint (MLX)"),
    ],
)
def test_codes_that_the_configuration_tells_of(
    folder: Path, key: str, value: Any, told: str
) -> None:
    configure(folder, **{key: value})
    assert told in str(refusal(folder))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_codes_that_it_does_not_tell_of(folder: Path, dtype: torch.dtype) -> None:
    """transformers takes them for numbers and leaves their scales out."""
    file, name = folder / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(file)
    save_file({**tensors, name: tensors[name].to(dtype)}, file, {"format": "pt"})
    assert f"{name} is stored as " in str(refusal(folder))


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in str(refusal(folder))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    error = refusal(folder)
    assert "model is an adapter and no model" in str(error)
    assert "compile its base (org/base), then gsqc import --peft" in error.hint


def test_code_of_its_own_is_not_run(folder: Path) -> None:
    code = folder / "modeling_own.py"
    code.write_text("raise SystemExit('it ran')")
    configure(folder, model_type="own", auto_map={"AutoConfig": "modeling_own.OwnConfig"})
    error = refusal(folder)
    assert "code of its own (auto_map in config.json)" in str(error)
    assert "model_type own" in str(error)
    configure(folder, model_type="llama")  # a family that transformers has: its code is not needed
    assert load_model(folder).weights.names()


def test_an_encoder_and_a_decoder(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = AutoConfig.for_model("bart", **sizes, **heads, encoder_ffn_dim=48, decoder_ffn_dim=48)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    error = refusal(tmp_path)
    assert str(error) == "bart is an encoder and a decoder"
    assert "gsqc models" in error.hint


def test_a_model_without_a_causal_head(tmp_path: Path) -> None:
    config = AutoConfig.for_model("vit", **SMALL | {"vocab_size": None}, image_size=28)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    assert str(refusal(tmp_path)) == "vit has no causal language model in transformers"


def test_a_repository_of_gguf_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "tiny-Q4_K_M.gguf").write_bytes(b"")
    assert "tiny-Q4_K_M.gguf" in refusal(folder).hint


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.safetensors", "holds weights without a configuration"),
        ("model.tflite", "is an export (.tflite)"),
        ("model.PTE", "is an export (.pte)"),
        ("model.pth", "is a pickle"),
        ("model.zip", "is not a GGUF file"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    assert told in str(refusal(tmp_path / name))


def test_a_name_that_no_pattern_should_see(folder: Path) -> None:
    """A name of a megabyte would keep the rules of names busy for hours."""
    file = folder / "model.safetensors"
    long = "experts." * 100_000
    save_file({**load_file(file), long: torch.zeros(1)}, file, {"format": "pt"})
    assert "has 1 tensors that its config.json does not know" in str(refusal(folder))
