# SPDX-License-Identifier: Apache-2.0
"""What the configuration of each architecture has beside its sizes.

What a GGUF file does not say is what llama.cpp takes for it (src/models/ there).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.readers.gguf_keys import Keys
from gsqc.models.readers.gguf_rope import rope_parameters

Settings = dict[str, Any]


def _rms(keys: Keys, *, name: str = "rms_norm_eps") -> Settings:
    return {name: keys.number("attention.layer_norm_rms_epsilon")}


def _rope(keys: Keys, *, partial: bool = False) -> Settings:
    return {"rope_parameters": rope_parameters(keys, partial=partial)}


def _biases(keys: Keys) -> Settings:
    return {"attention_bias": keys.has("q_proj.bias"), "mlp_bias": keys.has("gate_proj.bias")}


def _layer_types(keys: Keys, period: int) -> Settings:
    """Which layers see a window only: all but each `period`-th, unless the file says it."""
    layers, said = keys.layers(), keys.value("attention.sliding_window_pattern")
    if isinstance(said, int) and not isinstance(said, bool) and said > 0:
        period = said
    windows = [bool((k + 1) % period) for k in range(layers)]
    if isinstance(said, list):
        if len(said) < layers or not all(isinstance(value, (bool, int)) for value in said):
            raise ModelError(
                f"{keys.file.path.name} does not say of each layer whether it has a window",
                "fetch it again",
            )
        windows = [bool(value) for value in said[:layers]]
    return {"layer_types": [_SLIDING if window else _FULL for window in windows]}


_SLIDING, _FULL = "sliding_attention", "full_attention"


def _window(keys: Keys, default: int | None = None) -> int | None:
    """The window of the layers that have one, or None if the file has none."""
    if keys.value("attention.sliding_window") == 0:
        return None
    if keys.value("attention.sliding_window") is None:
        return default
    return keys.count("attention.sliding_window")


def _windows(keys: Keys, period: int, default: int | None = None) -> Settings:
    window = _window(keys, default)
    if window is None:
        return {"sliding_window": None, "layer_types": [_FULL] * keys.layers()}
    return {"sliding_window": window, **_layer_types(keys, period)}


def _llama(keys: Keys) -> Settings:
    return {**_rms(keys), **_rope(keys), **_biases(keys)}


def _granite(keys: Keys) -> Settings:
    return {
        **_llama(keys),
        "embedding_multiplier": keys.number("embedding_scale", 1.0),
        "residual_multiplier": keys.number("residual_scale", 1.0),
        "attention_multiplier": keys.number("attention.scale", keys.head_dim() ** -0.5),
        "logits_scaling": keys.number("logit_scale", 1.0),
    }


def _seed_oss(keys: Keys) -> Settings:
    return {**_llama(keys), "attention_out_bias": keys.has("o_proj.bias")}


def _olmo2(keys: Keys) -> Settings:
    """OLMo 2, or OLMo 3 if the file has a window. Then only layers without one scale rope."""
    if _window(keys) is None:
        return _llama(keys)
    rope = rope_parameters(keys)
    local = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    by_type = {_FULL: rope, _SLIDING: local}
    return {
        "model_type": "olmo3",
        **_rms(keys),
        **_windows(keys, 4),
        "rope_parameters": by_type,
        "attention_bias": keys.has("q_proj.bias"),
    }


def _exaone4(keys: Keys) -> Settings:
    return {**_rms(keys), **_rope(keys), **_windows(keys, 4)}


def _gemma(keys: Keys) -> Settings:
    return {**_rms(keys), **_rope(keys), "attention_bias": False}


def _query_scale(keys: Keys, layers_of_27b: int) -> Settings:
    """llama.cpp scales q of the 27B models by another width, and knows them by their layers."""
    heads, hidden = keys.count("attention.head_count"), keys.count("embedding_length")
    largest = keys.layers() == layers_of_27b
    return {"query_pre_attn_scalar": hidden // heads if largest else keys.head_dim()}


def _gemma2(keys: Keys) -> Settings:
    return {
        **_gemma(keys),
        **_query_scale(keys, 46),
        **_windows(keys, 2, 4096),
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0),
    }


def _gemma3(keys: Keys) -> Settings:
    theta = float(keys.number("rope.freq_base_swa", 10000.0))
    rope = {_FULL: rope_parameters(keys), _SLIDING: {"rope_type": "default", "rope_theta": theta}}
    capped = keys.value("final_logit_softcapping")
    return {
        **_gemma(keys),
        **_query_scale(keys, 62),
        **_windows(keys, 6),
        "rope_parameters": rope,
        "final_logit_softcapping": keys.number("final_logit_softcapping") if capped else None,
    }


def _phi3(keys: Keys) -> Settings:
    return {**_rms(keys), **_rope(keys, partial=True), "sliding_window": _window(keys)}


def _layer_norm(keys: Keys, name: str = "layer_norm_eps") -> Settings:
    return {name: keys.number("attention.layer_norm_epsilon")}


def _phi2(keys: Keys) -> Settings:
    return {**_layer_norm(keys), **_rope(keys, partial=True), "qk_layernorm": False}


def _arcee(keys: Keys) -> Settings:
    return {**_llama(keys), "mlp_bias": keys.has("up_proj.bias")}


def _nemotron(keys: Keys) -> Settings:
    biases = {**_biases(keys), "mlp_bias": keys.has("up_proj.bias")}
    return {**_layer_norm(keys, "norm_eps"), **_rope(keys, partial=True), **biases}


def _ernie(keys: Keys) -> Settings:
    return {**_rms(keys), **_rope(keys), "use_bias": keys.has("q_proj.bias")}


def _command_r(keys: Keys) -> Settings:
    bias = {"attention_bias": keys.has("q_proj.bias"), "use_qk_norm": False}
    return {**_layer_norm(keys), **_rope(keys), **bias, "logit_scale": keys.number("logit_scale")}


def _starcoder2(keys: Keys) -> Settings:
    bias = keys.has("q_proj.bias")
    return {**_layer_norm(keys, "norm_epsilon"), **_rope(keys), "use_bias": bias}


def _stablelm(keys: Keys) -> Settings:
    return {
        **_layer_norm(keys),
        **_rope(keys, partial=True),
        "use_qkv_bias": keys.has("q_proj.bias"),
        "use_parallel_residual": not keys.has("post_attention_layernorm.weight"),
    }


def _gpt2(keys: Keys) -> Settings:
    return {**_layer_norm(keys, "layer_norm_epsilon"), "n_inner": keys.count("feed_forward_length")}


def _gpt_neox(keys: Keys) -> Settings:
    parallel = keys.value("use_parallel_residual")
    return {
        **_layer_norm(keys),
        **_rope(keys, partial=True),
        "attention_bias": keys.has("query_key_value.bias"),
        "use_parallel_residual": True if parallel is None else bool(parallel),
    }


SETTINGS: dict[str, Callable[[Keys], Settings]] = {
    "llama": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "granite": _granite,
    "smollm3": _llama,
    "olmo2": _olmo2,
    "exaone4": _exaone4,
    "hunyuan-dense": _llama,
    "seed_oss": _seed_oss,
    "arcee": _arcee,
    "nemotron": _nemotron,
    "ernie4_5": _ernie,
    "command-r": _command_r,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "phi2": _phi2,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "gpt2": _gpt2,
    "gptneox": _gpt_neox,
}
"""By ggml's name of the architecture: the keys of transformers' configuration, with `model_type`
where it is not that of the table of architectures.
"""
