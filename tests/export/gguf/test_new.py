# SPDX-License-Identifier: Apache-2.0
"""A model of transformers, written as GGUF, is the same model in llama.cpp, or it is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from benchmarks.architectures.build import build, write
from benchmarks.architectures.families import BY_NAME
from gsqc.errors import ExportError
from gsqc.export.gguf.new import write_new_gguf
from gsqc.export.merge import MergedWeights
from gsqc.models import LoadedModel, load_model
from gsqc.models.readers.gguf_file import read_gguf
from tests.llama_library import LlamaModel

TOKENS = [(5 * k + k * k) % 250 for k in range(20)]
CLOSE = 3e-3
"""Of the deviation of log probabilities. llama.cpp keeps keys and values in float16."""


def unchanged(loaded: LoadedModel) -> MergedWeights:
    """What the export reads, without an adapter."""
    parameters = loaded.module.named_parameters()
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters}
    made = SimpleNamespace(
        loaded=loaded, shapes=lambda: shapes, float32=lambda name: loaded.weights.float32(name)
    )
    return cast("MergedWeights", made)


def written(folder: Path, name: str, dtype: str = "f32", **changed: Any) -> tuple[Any, Path]:
    """The model of a family, and the file that was made of its directory."""
    model = build(BY_NAME[name])
    for key, value in changed.items():
        setattr(model.config, key, value)
    loaded = load_model(write(model, folder / name))
    file = folder / "made.gguf"
    write_new_gguf(unchanged(loaded), file, dtype, None, "tiny")
    return model, file


@pytest.mark.parametrize(
    "name",
    [
        *("llama", "llama-rope-llama3", "llama-rope-yarn", "qwen2-untied", "qwen3", "gemma"),
        *("granite", "olmo3", "phi3-partial-rope", "gpt2", "gpt_neox", "cohere"),
    ],
)
def test_llama_cpp_computes_the_same(tmp_path: Path, name: str) -> None:
    model, file = written(tmp_path, name)
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
    expected = torch.log_softmax(logits.double(), -1).numpy()
    with LlamaModel(file) as theirs:
        got = torch.log_softmax(torch.from_numpy(theirs.logits(TOKENS)).double(), -1).numpy()
    assert np.sqrt(np.mean((got - expected) ** 2)) < CLOSE * expected.std()


@pytest.mark.parametrize(
    ("dtype", "kinds"), [("f16", {"F16", "F32"}), ("q8_0", {"Q8_0", "F32", "F16"})]
)
def test_vectors_stay_float32(tmp_path: Path, dtype: str, kinds: set[str]) -> None:
    """Rows of 24 numbers are no whole blocks of 32, so they become float16."""
    _, file = written(tmp_path, "llama", dtype)
    tensors = read_gguf(file).tensors
    assert {block.type for block in tensors.values()} <= kinds
    assert all(block.type == "F32" for block in tensors.values() if len(block.shape) == 1)
    assert tensors["blk.0.attn_q.weight"].type == dtype.upper()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("llama-rope-dynamic", "rope scaled by dynamic"),
        ("mistral-window", "which of its layers have a window"),
        ("gemma2", "cannot express the model: its attention"),
        ("exaone4", "64 layers only"),
        ("opt", "llama.cpp's layout of opt"),
        ("phi-qk-norm", "no tensor for model.layers.0.self_attn.q_layernorm.weight"),
    ],
)
def test_what_a_file_cannot_say_is_refused(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ExportError, match=what) as raised:
        written(tmp_path, name)
    assert "convert_hf_to_gguf.py" in raised.value.hint
    assert not (tmp_path / "made.gguf").exists()
