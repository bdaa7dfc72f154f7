# SPDX-License-Identifier: Apache-2.0
"""An adapter written as GGUF adds in llama.cpp what it adds in transformers' model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

from gsqc.adapters.lora import Lora
from gsqc.errors import ExportError
from gsqc.export.adapter import LinearAdapter, TrainedAdapter
from gsqc.export.fixed_point import to_int32
from gsqc.export.llama_cpp import write_gguf_adapter
from tests.models.readers.convert import (
    KEY_HEADS,
    log_probabilities,
    logits_of,
    logits_of_llama_cpp,
    tiny_model,
    write_model,
)

TOKENS = [(5 * k + k * k) % 250 for k in range(20)]
RANK, ALPHA = 4, 8
RMS = {"attention.layer_norm_rms_epsilon": 1e-6, "attention.head_count_kv": KEY_HEADS}
NORM = {"attention.layer_norm_epsilon": 1e-5}
PARTIAL = {**NORM, "rope.dimension_count": 4, "use_parallel_residual": True}
SETTINGS = {"rms_norm_eps": 1e-6}
EXACT, GELU = 2e-5, 4e-3
"""How far llama.cpp may be off, as in test_gguf_architectures.py."""


def bundle_of(model: Any, architecture: str) -> Any:
    """What the export reads of a bundle."""
    config = model.config
    key_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    part = SimpleNamespace(
        architecture=architecture, heads=config.num_attention_heads, key_value_heads=key_heads
    )
    return SimpleNamespace(manifest=SimpleNamespace(model=part))


def adapted(model: Any, blocks: str) -> TrainedAdapter:
    """A random adapter of every linear of the blocks. What it adds is merged into the model."""
    from transformers.pytorch_utils import Conv1D

    draw, settings, linears = np.random.default_rng(0), Lora(rank=RANK, alpha=ALPHA), []
    for name, part in model.named_modules():
        if not name.startswith(blocks) or not isinstance(part, (torch.nn.Linear, Conv1D)):
            continue
        columns = isinstance(part, Conv1D)
        rows = part.weight.T if columns else part.weight
        shapes = {"a": (RANK, rows.shape[1]), "b": (rows.shape[0], RANK)}
        a, b = (draw.normal(0, 0.15, shape) for shape in shapes.values())
        matrices = {"a": to_int32(a)[0], "b": to_int32(b)[0]}
        delta = torch.from_numpy((b @ a * (ALPHA / RANK)).astype(np.float32))
        with torch.no_grad():
            part.weight += delta.T if columns else delta
        layer = int(name.removeprefix(f"{blocks}.").split(".")[0])
        linears.append(LinearAdapter(settings, name, layer, name.rsplit(".", 1)[-1], matrices))
    return TrainedAdapter(tuple(linears), 7, model.config.model_type)


@pytest.mark.parametrize(
    ("architecture", "model_type", "values", "settings", "close"),
    [
        ("llama", "mistral", RMS, {"sliding_window": None}, EXACT),
        ("qwen2", "qwen2", RMS, {}, EXACT),
        ("olmo2", "olmo2", RMS, {}, EXACT),
        ("phi3", "phi3", RMS, {"sliding_window": None}, EXACT),
        ("gptneox", "gpt_neox", PARTIAL, {}, GELU),
        ("gpt2", "gpt2", NORM, {"n_inner": 96}, GELU),
    ],
)
def test_llama_cpp_adds_what_the_adapter_adds(
    tmp_path: Path,
    architecture: str,
    model_type: str,
    values: dict[str, Any],
    settings: dict[str, Any],
    close: float,
) -> None:
    model = tiny_model(model_type, **SETTINGS, **settings)
    base = write_model(model, architecture, tmp_path / "base.gguf", values)
    before = log_probabilities(logits_of(model, TOKENS))
    blocks = {"gpt2": "transformer.h", "gptneox": "gpt_neox.layers"}.get(
        architecture, "model.layers"
    )
    adapter = adapted(model, blocks)
    write_gguf_adapter(bundle_of(model, model_type), adapter, "tiny", tmp_path / "l.gguf", None)
    expected = log_probabilities(logits_of(model, TOKENS))
    theirs = logits_of_llama_cpp(base, TOKENS, tmp_path / "l.gguf")
    away = np.sqrt(np.mean((theirs - expected) ** 2))
    assert away < close * expected.std()
    assert np.sqrt(np.mean((before - expected) ** 2)) > 50 * close * expected.std()


def test_what_llama_cpp_has_no_tensor_for(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    adapter = adapted(model, "model.layers")
    with pytest.raises(ExportError, match="layout of opt") as raised:
        write_gguf_adapter(bundle_of(model, "opt"), adapter, "tiny", tmp_path / "l.gguf", None)
    assert "llama, qwen2" in raised.value.hint
    odd = LinearAdapter(
        Lora(RANK, ALPHA), "model.layers.0.other", 0, "other", adapter.linears[0].matrices
    )
    changed = TrainedAdapter((odd,), 1, "qwen2")
    with pytest.raises(ExportError, match="no tensor for"):
        write_gguf_adapter(bundle_of(model, "qwen2"), changed, "tiny", tmp_path / "l.gguf", None)
    assert not (tmp_path / "l.gguf").exists()
