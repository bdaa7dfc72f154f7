# SPDX-License-Identifier: Apache-2.0
"""Adapters written as PEFT's classes do in PEFT what their merged weights do alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from gsqc.adapters import parse_adapter
from gsqc.data.prompt import PromptForm
from gsqc.errors import ExportError
from gsqc.export.adapter import LinearAdapter, TrainedAdapter
from gsqc.export.fixed_point import to_float32, to_int32
from gsqc.export.peft import write_peft
from gsqc.export.prompts import TrainedPrompts
from tests.models.readers.convert import logits_of, tiny_model

TOKENS = [(5 * k + k * k) % 250 for k in range(20)]
PROMPTS = TrainedPrompts(PromptForm(), None, None, "text", True)


def trained(model: Any, text: str) -> TrainedAdapter:
    """A random adapter of every linear of the blocks. It is merged into the model."""
    adapter, draw, linears = parse_adapter(text), np.random.default_rng(0), []
    for number, (name, part) in enumerate(model.named_modules()):
        if not name.startswith("model.layers") or not isinstance(part, torch.nn.Linear):
            continue
        w = part.weight.detach().numpy().astype(np.float64)
        shapes = {n: p.shape for n, p in adapter.parameters(*w.shape).items()}
        matrices = {n: to_int32(draw.normal(0, 0.15, s))[0] for n, s in shapes.items()}
        arrays = {n: a.reshape(-1) for n, a in adapter.arrays(w, 1, number).items()}
        exact = {n: m * 2.0**-24 for n, m in matrices.items()}
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(adapter.merge(w, exact, arrays)))
        has_bias = part.bias is not None
        short = name.rsplit(".", 1)[-1]
        linears.append(LinearAdapter(adapter, name, 0, short, matrices, arrays, has_bias))
    return TrainedAdapter(tuple(linears), 7, model.config.model_type)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("peqa", "IA3"),
        ("road:group=8", "ROAD"),
        ("miss:rank=8", "MISS"),
        ("lora:rank=4,alpha=8,train=b", "LORA"),
        ("paca:rank=4,alpha=8", "LORA"),
        ("loldu:rank=8,alpha=8", "LORA"),
    ],
)
def test_peft_does_what_the_merged_model_does(tmp_path: Path, text: str, kind: str) -> None:
    """Off by float32's rounding of weights and activations alone, 1e-5 of the logits' spread."""
    from peft import PeftModel

    base = tiny_model("llama")
    merged = copy.deepcopy(base)
    adapter = trained(merged, text)
    write_peft(adapter, "tiny", tmp_path / "peft", PROMPTS)
    before, expected = logits_of(base, TOKENS), logits_of(merged, TOKENS)
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "peft")).eval()
    assert loaded.peft_config["default"].peft_type == kind
    got = logits_of(loaded, TOKENS)
    assert np.abs(got - expected).max() < 1e-4 * expected.std()
    assert np.abs(before - expected).max() > 0.1 * expected.std()


@pytest.mark.parametrize("text", ["peqa", "road:group=8"])
def test_a_class_that_changes_biases_is_refused_for_them(tmp_path: Path, text: str) -> None:
    adapter = trained(tiny_model("qwen2"), text)
    with pytest.raises(ExportError, match="has a bias") as raised:
        write_peft(adapter, "tiny", tmp_path / "peft", PROMPTS)
    assert "--merged" in raised.value.hint
    assert not (tmp_path / "peft").exists()


def test_lora_of_biased_linears_is_written(tmp_path: Path) -> None:
    adapter = trained(tiny_model("qwen2"), "lora:rank=4,alpha=8")
    write_peft(adapter, "tiny", tmp_path / "peft", PROMPTS)
    assert to_float32(adapter.numbers()[0]).dtype == np.float32
