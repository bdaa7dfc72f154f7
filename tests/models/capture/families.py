# SPDX-License-Identifier: Apache-2.0
"""Tiny models of the families that gsqc compiles, with random weights, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel

from tests.models.capture.tiny import SIZES, build

WINDOW = 5
_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _sized(config: Callable[..., Any], **changes: Any) -> Callable[[], Any]:
    return lambda: config(**{**SIZES, **_ENDS, **changes})


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama with biases": _sized(hf.LlamaConfig, attention_bias=True, mlp_bias=True),
    "mistral, window": _sized(hf.MistralConfig, sliding_window=WINDOW),
    "qwen2": _sized(hf.Qwen2Config),
    "qwen3": _sized(hf.Qwen3Config, head_dim=32),
    "granite": _sized(
        hf.GraniteConfig,
        embedding_multiplier=12.0,
        residual_multiplier=0.22,
        attention_multiplier=0.1,
        logits_scaling=6.0,
    ),
    "smollm3, a layer without rope": _sized(hf.SmolLM3Config, num_hidden_layers=4),
    "olmo3, window": _sized(hf.Olmo3Config, sliding_window=WINDOW, num_hidden_layers=4),
    "exaone4, window": _sized(
        hf.Exaone4Config, num_hidden_layers=4, sliding_window=WINDOW, sliding_window_pattern=4
    ),
    "hunyuan": _sized(hf.HunYuanDenseV1Config, head_dim=16),
    "seed-oss": _sized(hf.SeedOssConfig, head_dim=16),
    "ministral, window": _sized(hf.MinistralConfig, head_dim=16, sliding_window=WINDOW),
}


def tiny(family: str) -> PreTrainedModel:
    """The model of a family. Its biases are not zero."""
    model = build(FAMILIES[family]())
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
    return model
