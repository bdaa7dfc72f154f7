# SPDX-License-Identifier: Apache-2.0
"""Names and forms of stored tensors: what we read is what transformers loads, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen3MoeConfig,
)

from gsqc.errors import ModelError
from gsqc.models import load_model
from tests.models.capture.tiny import SIZES, build, tiny_llama

WEIGHTS = "model.safetensors"
EXPERTS: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 32}


def assert_as_transformers(folder: Path) -> Any:
    """Every parameter is that of `from_pretrained`. Gives what we loaded."""
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load_model(folder)
    parameters = dict(theirs.named_parameters())
    assert set(ours.weights.names()) == set(parameters)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(ours.weights.float32(name), parameter.detach().numpy(), name)
    return ours


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        (GPTNeoXConfig(**SIZES), "embed_out.weight"),
        (GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=128), "transformer.wte.weight"),
        (MixtralConfig(**SIZES, num_local_experts=4), "experts.3.w1.weight"),
        (Qwen3MoeConfig(**SIZES, **EXPERTS), "experts.3.gate_proj.weight"),
        (OlmoeConfig(**SIZES, num_experts=4), "experts.0.down_proj.weight"),
        (
            DeepseekV3Config(
                **SIZES | {"num_key_value_heads": 4}, q_lora_rank=32, kv_lora_rank=16,
                qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4,
                num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=32,
                first_k_dense_replace=1,
            ),
            "experts.3.up_proj.weight",
        ),
        (GptOssConfig(**SIZES, head_dim=16, num_local_experts=4), "experts.gate_up_proj"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)  # fmt: skip
def test_what_transformers_renames_and_joins(config: Any, stored: str, tmp_path: Path) -> None:
    build(config).save_pretrained(tmp_path)
    assert any(name.endswith(stored) for name in load_file(tmp_path / WEIGHTS))
    assert_as_transformers(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_and_parts(dtype: torch.dtype, tmp_path: Path) -> None:
    build(MixtralConfig(**SIZES, num_local_experts=4)).to(dtype).save_pretrained(
        tmp_path, max_shard_size="200KB"
    )
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_as_transformers(tmp_path)


def test_a_directory_of_the_model_without_its_head(tmp_path: Path) -> None:
    """LlamaModel.save_pretrained writes no "model." before its names."""
    model = tiny_llama()
    model.model.save_pretrained(tmp_path)
    assert "layers.0.mlp.up_proj.weight" in load_file(tmp_path / WEIGHTS)
    assert_as_transformers(tmp_path)


def test_an_expert_that_is_missing(tmp_path: Path) -> None:
    build(MixtralConfig(**SIZES, num_local_experts=4)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    name = next(n for n in tensors if n.endswith("experts.2.w1.weight"))
    save_file({n: t for n, t in tensors.items() if n != name}, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(ModelError, match=r"do not make .*experts|has shape"):
        load_model(tmp_path)


def test_two_stored_tensors_of_one_name(tmp_path: Path) -> None:
    build(GPTNeoXConfig(**SIZES)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["lm_head.weight"] = tensors["embed_out.weight"] + 1
    save_file(tensors, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(ModelError, match=r"embed_out\.weight and lm_head\.weight are both"):
        load_model(tmp_path)


def test_only_the_parts_of_one_tensor_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of many experts does not pass through memory to give a norm."""
    build(MixtralConfig(**SIZES, num_local_experts=4)).save_pretrained(tmp_path)
    weights = load_model(tmp_path).weights
    read: list[str] = []
    one = transformers.core_model_loading.WeightConverter.add_tensor

    def count(self: Any, target: str, source: str, *rest: Any) -> None:
        read.append(source)
        one(self, target, source, *rest)

    monkeypatch.setattr(transformers.core_model_loading.WeightConverter, "add_tensor", count)
    weights.float32("model.norm.weight")
    assert read == []
    weights.float32("model.layers.1.mlp.experts.gate_up_proj")
    assert len(read) == 8
    assert all(".layers.1." in name for name in read)
