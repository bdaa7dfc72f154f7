# SPDX-License-Identifier: Apache-2.0
"""Tiny Hugging Face models with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

TOKENS = 12
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
}


def build(config: Any) -> PreTrainedModel:
    """A model whose norms are not all ones, so that a lost weight shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data.uniform_(0.5, 1.5)
        elif name.endswith("weight"):
            parameter.data.mul_(4)  # attention far from uniform
    return model


def tiny_llama(**changes: Any) -> PreTrainedModel:
    return build(LlamaConfig(**(SIZES | {"tie_word_embeddings": True} | changes)))


def tokens(count: int = TOKENS) -> torch.Tensor:
    return torch.randint(
        0, SIZES["vocab_size"], (count,), generator=torch.Generator().manual_seed(1)
    )


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
    return result
