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
    "gemma": _sized(hf.GemmaConfig, head_dim=16),
    "gemma2, window": _sized(hf.Gemma2Config, head_dim=16, sliding_window=WINDOW),
    "gemma3, window": _sized(
        hf.Gemma3TextConfig, head_dim=16, sliding_window=WINDOW, num_hidden_layers=6
    ),
    "olmo3, window": _sized(hf.Olmo3Config, sliding_window=WINDOW, num_hidden_layers=4),
    "exaone4, window": _sized(
        hf.Exaone4Config, num_hidden_layers=4, sliding_window=WINDOW, sliding_window_pattern=4
    ),
    "hunyuan": _sized(hf.HunYuanDenseV1Config, head_dim=16),
    "seed-oss": _sized(hf.SeedOssConfig, head_dim=16),
    "arcee, squared relu": _sized(hf.ArceeConfig),
    "biogpt": _sized(hf.BioGptConfig, max_position_embeddings=24),
    "bitnet, squared relu as a gate": _sized(hf.BitNetConfig),
    "cohere 2, window": _sized(hf.Cohere2Config, sliding_window=WINDOW),
    "cohere": _sized(hf.CohereConfig, logit_scale=0.25),
    "ernie 4.5, rope of pairs": _sized(hf.Ernie4_5Config, head_dim=16),
    "glm": _sized(hf.GlmConfig, head_dim=16),
    "glm 4": _sized(hf.Glm4Config, head_dim=16),
    "gpt-2": lambda: hf.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, n_positions=24, vocab_size=128, **_ENDS
    ),
    "gpt-neox": _sized(hf.GPTNeoXConfig),
    "gpt-neox, one residual": _sized(hf.GPTNeoXConfig, use_parallel_residual=False),
    "helium": _sized(hf.HeliumConfig, head_dim=16),
    "jais 2": _sized(hf.Jais2Config),
    "nemotron": _sized(hf.NemotronConfig),
    "olmo": _sized(hf.OlmoConfig),
    "opt": _sized(hf.OPTConfig, ffn_dim=96, word_embed_proj_dim=64, max_position_embeddings=24),
    "phi-2": _sized(hf.PhiConfig),
    "phi-2, norms of heads": _sized(hf.PhiConfig, qk_layernorm=True),
    "phi-3": _sized(hf.Phi3Config, partial_rotary_factor=0.75),
    "stablelm": _sized(hf.StableLmConfig),
    "starcoder2": _sized(hf.Starcoder2Config),
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
