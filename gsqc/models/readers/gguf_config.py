# SPDX-License-Identifier: Apache-2.0
"""The configuration of a llama from the metadata of a GGUF file."""

from __future__ import annotations

from typing import Any

from gsqc.errors import ModelError
from gsqc.limits import MAXIMUM_LAYERS
from gsqc.models.readers.gguf_file import GgufFile
from gsqc.models.readers.text_files import first_line

ARCHITECTURE = "llama"
_MOST = 2**31 - 1
"""No size or rate is larger. Infinity is, and NaN is no positive number."""


def _number(file: GgufFile, key: str, default: float | None = None) -> Any:
    value = file.metadata.get(f"{ARCHITECTURE}.{key}", default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ModelError(
            f"{file.path.name} has {ARCHITECTURE}.{key} = {value}, not a positive number",
            "gsqc reads Llama-like decoders whose layers are all alike",
        )
    if value > _MOST:
        raise ModelError(f"{file.path.name} has {ARCHITECTURE}.{key} = {value}", "fetch it again")
    return value


def _count(file: GgufFile, key: str, default: int | None = None) -> int:
    value = _number(file, key, default)
    if not isinstance(value, int):
        raise ModelError(
            f"{file.path.name} has {ARCHITECTURE}.{key} = {value}, not a whole number",
            "fetch it again",
        )
    return value


def _layers(file: GgufFile) -> int:
    """The number of blocks. Each has tensors of its own, so there are not more than tensors."""
    layers = _count(file, "block_count")
    if layers > min(MAXIMUM_LAYERS, len(file.tensors)):
        raise ModelError(
            f"{file.path.name} has {layers} blocks and {len(file.tensors)} tensors",
            "the file is damaged: fetch it again",
        )
    return layers


def _head_dim(file: GgufFile, default: int) -> int:
    """The numbers of a head, all of which are rotated in pairs."""
    head_dim = _count(file, "attention.key_length", default)
    if head_dim % 2:
        raise ModelError(f"{file.path.name} has heads of {head_dim} numbers", "fetch it again")
    if _number(file, "rope.dimension_count", head_dim) != head_dim:
        raise ModelError(
            f"{file.path.name} rotates a part of each head only",
            "gsqc compiles rope over whole heads",
        )
    return head_dim


def llama_config(file: GgufFile, names: dict[str, str]) -> Any:
    """A LlamaConfig. `names` are the parameters of the file by Hugging Face's names: what it lacks
    is tied, or has no bias. Raises ModelError.
    """
    from transformers import LlamaConfig

    heads, hidden = _count(file, "attention.head_count"), _count(file, "embedding_length")
    head_dim = _head_dim(file, hidden // heads)
    if "model.embed_tokens.weight" not in names:
        raise ModelError(
            f"{file.path.name} has no token_embd.weight", "give a file that holds a whole model"
        )
    try:
        return LlamaConfig(
            vocab_size=file.tensors["token_embd.weight"].shape[0],
            hidden_size=hidden,
            intermediate_size=_count(file, "feed_forward_length"),
            num_hidden_layers=_layers(file),
            num_attention_heads=heads,
            num_key_value_heads=_count(file, "attention.head_count_kv", heads),
            head_dim=head_dim,
            max_position_embeddings=_count(file, "context_length", 2048),
            rms_norm_eps=_number(file, "attention.layer_norm_rms_epsilon"),
            rope_parameters=_rope_parameters(file),
            tie_word_embeddings="lm_head.weight" not in names,
            attention_bias="model.layers.0.self_attn.q_proj.bias" in names,
            mlp_bias="model.layers.0.mlp.gate_proj.bias" in names,
        )
    except ModelError:
        raise
    except Exception as error:  # transformers raises errors of many types
        raise ModelError(
            f"the sizes in {file.path.name} do not fit together: {first_line(error)}",
            "fetch it again",
        ) from error


def _rope_parameters(file: GgufFile) -> dict[str, Any]:
    theta = float(_number(file, "rope.freq_base", 10000.0))
    # As in llama.cpp, a factor without a type is linear, and it once had another name.
    kind = file.metadata.get(f"{ARCHITECTURE}.rope.scaling.type", "linear")
    if float(_number(file, "rope.scaling.attn_factor", 1)) != 1:
        raise ModelError(
            f"{file.path.name} scales attention beside rope (rope.scaling.attn_factor)",
            "gsqc reads GGUF files with no or linear rope scaling",
        )
    factor = float(_number(file, "rope.scaling.factor", _number(file, "rope.scale_linear", 1)))
    if kind == "none" or (kind == "linear" and factor == 1):
        return {"rope_type": "default", "rope_theta": theta}
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    raise ModelError(
        f"{file.path.name} scales rope by {kind}",
        "gsqc reads GGUF files with no or linear rope scaling",
    )
