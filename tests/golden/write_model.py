# SPDX-License-Identifier: Apache-2.0
"""A small Llama as a Hugging Face directory, bit for bit the same on every machine.

Its weights come from gsqc's own generator. torch's gives other numbers in other versions and on
other processors, and with other weights every golden digest would differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from gsqc.numerics.random import random_bits
from tests.golden.configurations import Model
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer

Float32 = npt.NDArray[np.float32]
SCALE = 0.125
"""Weights lie in -SCALE to SCALE: attention is far from uniform."""


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    hidden, cached = model.heads * model.head_dim, model.key_value_heads * model.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, hidden)}
    for layer in range(model.layers):
        block = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (cached, hidden),
            "self_attn.v_proj": (cached, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (model.intermediate, hidden),
            "mlp.up_proj": (model.intermediate, hidden),
            "mlp.down_proj": (hidden, model.intermediate),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    shapes["model.norm.weight"] = (hidden,)
    return shapes if model.tied else shapes | {"lm_head.weight": (VOCABULARY, hidden)}


def _weight(stream: int, shape: tuple[int, ...]) -> Float32:
    """Uniform numbers, around 0 for a matrix, and around 1 for a norm, so that a lost one shows."""
    bits = random_bits(0, stream, np.arange(int(np.prod(shape))))
    centred = bits / 2**30 - 1.0  # exact in float64, and the next line rounds once
    return (
        (1 + centred / 2 if len(shape) == 1 else centred * SCALE).astype(np.float32).reshape(shape)
    )


def _config(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": model.heads * model.head_dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.key_value_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.intermediate,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": model.tied,
        "eos_token_id": END,
        "torch_dtype": "float32",
    }


def write_model(folder: Path, model: Model) -> None:
    """Write the model and a tokenizer of bytes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(model), indent=1), encoding="utf-8")
    weights = {
        name: _weight(stream, shape) for stream, (name, shape) in enumerate(_shapes(model).items())
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    byte_tokenizer().save(str(folder / "tokenizer.json"))
