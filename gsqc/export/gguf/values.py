# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says of a model, from transformers' configuration: the way back of
gsqc.models.readers.gguf_settings.

The keys are those of llama.cpp's converter (conversion/ there). Whether they say all of a model is
found by reading the file back (`gguf_model`), so a key that is not needed may be here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gsqc.errors import ExportError
from gsqc.export.fixed_point import Float32
from gsqc.models.readers.gguf_rope import LONG, ROPE_FREQUENCIES, SHORT

Values = dict[str, Any]
ELSEWHERE = "write a directory with --merged DIR, and use llama.cpp's convert_hf_to_gguf.py"
_NUMBERS = {
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": (
        *("layer_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon"),
    ),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "attention.scale": ("attention_multiplier",),
    "logit_scale": ("logits_scaling", "logit_scale"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
"""Numbers, by the names that transformers has for them."""
_PATTERN = ("exaone4", "olmo2")
"""Architectures of which llama.cpp reads which layers have a window. Others have a fixed order."""
_WINDOWS_OF_EXAONE = 64
"""Layers of the one Exaone 4 whose windows llama.cpp knows."""
_ALL_HEADS = ("gpt2", "gptneox")
"""Architectures whose k and v have all heads, whatever number their configurations have."""
_FULL, _SLIDING = "full_attention", "sliding_attention"


def model_values(config: Any, architecture: str) -> Values:
    """The values below `architecture.`, by their keys: int, float, bool, str, or a list of bool.

    config  transformers' configuration of a decoder

    Raises ExportError for windows or a rope scaling that llama.cpp has no keys for.
    """
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    values: Values = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": _inner(config),
        "attention.head_count": heads,
        "attention.head_count_kv": _key_heads(config, architecture),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "vocab_size": config.vocab_size,
    }
    for key, names in _NUMBERS.items():
        found = next((n for name in names if (n := getattr(config, name, None)) is not None), None)
        if found is not None:
            values[key] = float(found)
    if (parallel := getattr(config, "use_parallel_residual", None)) is not None:
        values["use_parallel_residual"] = bool(parallel)
    return values | _window_values(config, architecture) | _rope_values(config, head_dim)


def _key_heads(config: Any, architecture: str) -> int:
    heads = None if architecture in _ALL_HEADS else getattr(config, "num_key_value_heads", None)
    return int(heads or config.num_attention_heads)


def _inner(config: Any) -> int:
    """The width between the linears of an MLP."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return int(inner or 4 * config.hidden_size)


def _window_values(config: Any, architecture: str) -> Values:
    window = getattr(config, "sliding_window", None)
    if not window:
        return {}
    if architecture == "exaone4" and config.num_hidden_layers != _WINDOWS_OF_EXAONE:
        what = f"Exaone 4 of {_WINDOWS_OF_EXAONE} layers only"
        raise ExportError(f"llama.cpp knows the windows of an {what}", ELSEWHERE)
    types = getattr(config, "layer_types", None)
    pattern = [kind == _SLIDING for kind in types or ()]
    said: Values = {"attention.sliding_window": window}
    return said | (
        {"attention.sliding_window_pattern": pattern} if architecture in _PATTERN else {}
    )


def _rope_values(config: Any, head_dim: int) -> Values:
    """Rope's frequencies and scaling. Models with learned positions have none."""
    rope = getattr(config, "rope_parameters", None)
    if not rope:
        return {}
    values: Values = {}
    if _FULL in rope:
        values["rope.freq_base_swa"] = float(rope[_SLIDING]["rope_theta"])
        rope = rope[_FULL]
    values["rope.freq_base"] = float(rope["rope_theta"])
    part = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1
    values["rope.dimension_count"] = int(head_dim * part)
    return values | _scaling(config, rope, values["rope.dimension_count"])


def _scaling(config: Any, rope: Values, turned: int) -> Values:
    kind = rope.get("rope_type", "default")
    if kind in ("default", "llama3"):  # llama3 is a tensor: `rope_tensors`
        return {}
    if kind == "linear":
        return {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    if kind == "yarn":
        factor, usual = float(rope["factor"]), 1 + 0.1 * math.log(max(rope["factor"], 1))
        attention = rope.get("attention_factor")
        return {
            "rope.scaling.type": kind,
            "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": 1.0 if attention is None else float(attention / usual),
            "rope.scaling.yarn_beta_fast": float(rope.get("beta_fast") or 32),
            "rope.scaling.yarn_beta_slow": float(rope.get("beta_slow") or 1),
        }
    if kind == "longrope":
        longer = config.max_position_embeddings / original
        usual = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
        attention = rope.get("attention_factor")
        return {
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": float(usual if attention is None else attention),
        }
    raise ExportError(f"a GGUF file has no keys for rope scaled by {kind}", ELSEWHERE)


def rope_tensors(config: Any, module: Any) -> dict[str, Float32]:
    """The divisors of rope's frequencies, as tensors of the file. {} for models without them."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type")
    if kind == "longrope":
        factors = {LONG: rope["long_factor"], SHORT: rope["short_factor"]}
        return {name: np.asarray(values, np.float32) for name, values in factors.items()}
    if kind != "llama3":
        return {}
    scaled = next(part.inv_freq for part in module.modules() if hasattr(part, "inv_freq"))
    count = len(scaled)
    plain = float(rope["rope_theta"]) ** -(np.arange(count) / count)
    return {ROPE_FREQUENCIES: (plain / scaled.double().numpy()).astype(np.float32)}
