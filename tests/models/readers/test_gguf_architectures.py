# SPDX-License-Identifier: Apache-2.0
"""GGUF files of every architecture give the model that they were made from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

from gsqc.models import load_model
from tests.models.readers.convert import (
    HEAD_DIM,
    HEADS,
    KEY_HEADS,
    loaded_model,
    log_probabilities,
    logits_of,
    logits_of_llama_cpp,
    tiny_model,
    write_model,
)

TOKENS = [(7 * k + k * k) % 250 for k in range(24)]
RMS = {"attention.layer_norm_rms_epsilon": 1e-6}
NORM = {"attention.layer_norm_epsilon": 1e-5}
GROUPED = {"attention.head_count_kv": KEY_HEADS}
WIDTHS = {"attention.key_length": HEAD_DIM, "attention.value_length": HEAD_DIM}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
BY_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 16,
}
GELU = 4e-3
FAR = {"rope.freq_base": 500000.0}
WHOLE = {"rope.dimension_count": HEAD_DIM}
PARTIAL = {"rope.dimension_count": HEAD_DIM // 2}


class Made(NamedTuple):
    """A model of transformers, and what the converter writes of its configuration.

    close  how far llama.cpp's log-probabilities may be off, RMS, as a share of their deviation.
           It computes GELU by a table of float16
    """

    architecture: str
    model_type: str
    settings: dict[str, Any]
    values: dict[str, Any]
    close: float = 2e-5
    further: dict[str, Any] | None = None


LONG = np.linspace(2, 9, HEAD_DIM // 2, dtype=np.float32)
SHORT = np.linspace(1, 2, HEAD_DIM // 2, dtype=np.float32)
CASES = {
    "llama with biases": Made(
        "llama", "llama", {"attention_bias": True, "rms_norm_eps": 1e-6}, {**RMS, **GROUPED}
    ),
    "qwen2": Made("qwen2", "qwen2", {}, {**RMS, **GROUPED}),
    "qwen2 tied": Made("qwen2", "qwen2", {"tie_word_embeddings": True}, {**RMS, **GROUPED}),
    "qwen3": Made("qwen3", "qwen3", {}, {**RMS, **GROUPED, **WIDTHS}),
    "granite": Made(
        "granite",
        "granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.2,
            "logits_scaling": 2.0,
        },
        {
            **RMS,
            **GROUPED,
            "embedding_scale": 3.0,
            "residual_scale": 0.4,
            "attention.scale": 0.2,
            "logit_scale": 2.0,
        },
    ),
    "smollm3": Made("smollm3", "smollm3", {}, {**RMS, **GROUPED, "rope.freq_base": 2e6}),
    "olmo2": Made("olmo2", "olmo2", {"rms_norm_eps": 1e-6}, {**RMS, **GROUPED}),
    "olmo3": Made(
        "olmo2",
        "olmo3",
        {"rms_norm_eps": 1e-6, "sliding_window": 8},
        {**RMS, **GROUPED, "attention.sliding_window": 8, "rope.freq_base": 500000.0},
    ),
    "exaone4": Made(
        "exaone4",
        "exaone4",
        {
            "rms_norm_eps": 1e-6,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 4,
        },
        {**RMS, **GROUPED},
    ),
    "hunyuan-dense": Made(
        "hunyuan-dense", "hunyuan_v1_dense", {"rms_norm_eps": 1e-6}, {**RMS, **GROUPED, **WIDTHS}
    ),
    "seed_oss": Made("seed_oss", "seed_oss", {}, {**RMS, **GROUPED, **WIDTHS}),
    "arcee": Made("arcee", "arcee", {"rms_norm_eps": 1e-6}, {**RMS, **GROUPED, **WHOLE}),
    "nemotron": Made("nemotron", "nemotron", {}, {**NORM, **GROUPED, **PARTIAL}),
    "ernie4_5": Made("ernie4_5", "ernie4_5", {"rms_norm_eps": 1e-6}, {**RMS, **GROUPED, **FAR}),
    "command-r": Made(
        "command-r", "cohere", {"logit_scale": 0.5}, {**NORM, **GROUPED, **FAR, "logit_scale": 0.5}
    ),
    "gemma": Made("gemma", "gemma", {}, {**RMS, **GROUPED, **WIDTHS}, GELU),
    "gemma2": Made(
        "gemma2",
        "gemma2",
        {"query_pre_attn_scalar": HEAD_DIM, "sliding_window": 8},
        {**RMS, **GROUPED, **WIDTHS, "attention.sliding_window": 8},
        GELU,
    ),
    "gemma3": Made(
        "gemma3",
        "gemma3_text",
        {
            "query_pre_attn_scalar": HEAD_DIM,
            "sliding_window": 8,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": ROPE,
            },
        },
        {
            **RMS,
            **GROUPED,
            **WIDTHS,
            "attention.sliding_window": 8,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        GELU,
    ),
    "phi3": Made("phi3", "phi3", {"rms_norm_eps": 1e-6}, {**RMS, **GROUPED}),
    "phi3 longrope": Made(
        "phi3",
        "phi3",
        {
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 512,
            "rope_parameters": {
                **ROPE,
                "rope_type": "longrope",
                "long_factor": LONG.tolist(),
                "short_factor": SHORT.tolist(),
            },
        },
        {
            **RMS,
            **GROUPED,
            "rope.scaling.original_context_length": 512,
            "rope.scaling.attn_factor": math.sqrt(1 + math.log(2) / math.log(512)),
        },
        further={"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT},
    ),
    "phi3 partial": Made(
        "phi3",
        "phi3",
        {"rms_norm_eps": 1e-6, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}},
        {**RMS, **GROUPED, **PARTIAL},
    ),
    "phi2": Made("phi2", "phi", {"num_key_value_heads": HEADS}, {**NORM, **PARTIAL}, GELU),
    "starcoder2": Made(
        "starcoder2", "starcoder2", {"norm_epsilon": 1e-5}, {**NORM, **GROUPED}, GELU
    ),
    "stablelm": Made(
        "stablelm",
        "stablelm",
        {"use_qkv_bias": True},
        {**NORM, **GROUPED, "rope.dimension_count": HEAD_DIM // 4},
    ),
    "gpt2": Made("gpt2", "gpt2", {"n_inner": 96}, {**NORM}, GELU),
    "gptneox": Made(
        "gptneox",
        "gpt_neox",
        {},
        {**NORM, "rope.dimension_count": HEAD_DIM // 4, "use_parallel_residual": True},
        GELU,
    ),
    "gptneox without biases, in sequence": Made(
        "gptneox",
        "gpt_neox",
        {"use_parallel_residual": False, "rope_parameters": {**ROPE, "partial_rotary_factor": 1.0}},
        {**NORM, "use_parallel_residual": False},
        GELU,
    ),
    "qwen2 yarn": Made(
        "qwen2",
        "qwen2",
        {"rope_parameters": {**ROPE, **YARN}},
        {**RMS, **GROUPED, **BY_YARN},
    ),
    "llama yarn": Made(
        "llama",
        "llama",
        {
            "rms_norm_eps": 1e-6,
            "rope_parameters": {**ROPE, **YARN, "beta_fast": 24.0, "beta_slow": 2.0},
        },
        {
            **RMS,
            **GROUPED,
            **BY_YARN,
            "rope.scaling.yarn_beta_fast": 24.0,
            "rope.scaling.yarn_beta_slow": 2.0,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_the_model_it_was_made_from(tmp_path: Path, case: str) -> None:
    """Equal numbers in transformers, and llama.cpp agrees on what the file says."""
    made = CASES[case]
    model = tiny_model(made.model_type, **made.settings)
    path = write_model(
        model, made.architecture, tmp_path / "a.gguf", made.values, None, made.further
    )
    loaded = load_model(path)
    assert loaded.module.config.model_type == made.model_type
    expected = logits_of(model, TOKENS)
    got = logits_of(loaded_model(loaded), TOKENS)
    # w of a norm that is stored as 1 + w loses bits below 2^-24.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    last = log_probabilities(expected)
    theirs = logits_of_llama_cpp(path, TOKENS)
    assert np.sqrt(np.mean((theirs - last) ** 2)) < made.close * last.std()
