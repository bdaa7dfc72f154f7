# SPDX-License-Identifier: Apache-2.0
"""The architectures of the matrix: a model type of transformers and the settings of a tiny one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Settings = dict[str, Any]

SIZES: Settings = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}
_COMMON: Settings = {
    "vocab_size": 320,
    "max_position_embeddings": 128,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": None,
}
_WIDE: Settings = {"head_dim": 16}
_EXPERTS: Settings = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT: Settings = {
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "num_key_value_heads": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One row of the matrix.

    name      of the row
    type      transformers' model type
    settings  those of its configuration, beside the sizes. None takes a size away
    gguf      llama.cpp's name of the architecture, "" if it has none or needs more than weights
    task      as --task of compile: generate or classify
    """

    name: str
    type: str
    settings: Settings
    gguf: str = ""
    task: str = "generate"

    @property
    def configuration(self) -> Settings:
        """What the configuration is made of."""
        given = _COMMON | SIZES | self.settings
        taken = {k for k, v in self.settings.items() if v is None and k in SIZES}
        return {k: v for k, v in given.items() if k not in taken}


def _family(name: str, model_type: str = "", gguf: str = "", **settings: Any) -> Family:
    return Family(name, model_type or name, settings, gguf)


def _rope(kind: str, **more: Any) -> Settings:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, **more}}


_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_OLD = {"original_max_position_embeddings": 8}
_SLIDING = ["sliding_attention", "full_attention"] * 2
_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
_NO_SIZES: Settings = dict.fromkeys(SIZES)
_MPT: Settings = {
    "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128, **dict.fromkeys(SIZES),
}  # fmt: skip

FAMILIES = (
    _family("llama", gguf="llama", tie_word_embeddings=True),
    _family("llama-untied", "llama", "llama", tie_word_embeddings=False),
    _family("llama-wide-heads", "llama", head_dim=80, num_key_value_heads=4),
    _family("llama-biases", "llama", "llama", attention_bias=True, mlp_bias=True),
    _family("llama-rope-llama3", "llama", **_rope("llama3", **_LLAMA3, **_OLD)),
    _family("llama-rope-linear", "llama", **_rope("linear", factor=2.0)),
    _family("llama-rope-yarn", "llama", **_rope("yarn", factor=4.0, **_OLD)),
    _family("llama-rope-dynamic", "llama", **_rope("dynamic", factor=2.0)),
    _family("mistral", gguf="llama", sliding_window=None),
    _family("mistral-window-wide", "mistral", sliding_window=64),
    _family("mistral-window", "mistral", sliding_window=8),
    _family("ministral", **_WIDE, layer_types=_SLIDING[:2], sliding_window=64),
    _family("ministral-window", "ministral", **_WIDE, layer_types=_SLIDING[:2], sliding_window=8),
    _family("ministral3", **_WIDE),
    _family("cwm", **_WIDE, layer_types=_SLIDING, num_hidden_layers=4, sliding_window=64),
    _family("internlm3", **_WIDE),
    _family("iquestcoder", **_WIDE),
    _family("arcee", gguf="arcee"),
    _family("qwen2", gguf="qwen2", tie_word_embeddings=True),
    _family("qwen2-untied", "qwen2", "qwen2", tie_word_embeddings=False),
    _family("qwen3", gguf="qwen3", **_WIDE),
    _family("qwen3-layers", "qwen3", **_WIDE, use_sliding_window=True, sliding_window=8,
            max_window_layers=1),
    _family("seed_oss", **_WIDE),
    _family("smollm3", gguf="smollm3", num_hidden_layers=4),
    _family("granite", gguf="granite", embedding_multiplier=12.0, logits_scaling=8.0,
            residual_multiplier=0.22, attention_multiplier=0.0625),
    _family("gemma", gguf="gemma", **_WIDE),
    _family("gemma2", gguf="gemma2", **_WIDE, sliding_window=8),
    _family("gemma3_text", gguf="gemma3", **_WIDE, num_hidden_layers=6, sliding_window=8),
    _family("vaultgemma", **_WIDE, sliding_window=8),
    _family("olmo", gguf="olmo"),
    _family("olmo2", gguf="olmo2"),
    _family("olmo3", num_hidden_layers=4, sliding_window=8),
    _family("phi", gguf="phi2", num_key_value_heads=4),
    _family("phi-qk-norm", "phi", num_key_value_heads=4, qk_layernorm=True),
    _family("phi3", gguf="phi3", sliding_window=None),
    _family("phi3-partial-rope", "phi3", partial_rotary_factor=0.5, sliding_window=None),
    _family("gpt2", gguf="gpt2", **_NO_SIZES, **_GPT2),
    _family("gpt_bigcode", **_NO_SIZES, **_GPT2),
    _family("gpt_neo", attention_types=[[["global"], 2]], num_layers=2, num_heads=4,
            num_hidden_layers=None, num_attention_heads=None),
    _family("gpt_neox", gguf="gptneox"),
    _family("gpt_neox-sequential", "gpt_neox", use_parallel_residual=False),
    _family("gptj", **_NO_SIZES, **_GPT2, rotary_dim=8),
    _family("codegen", **_NO_SIZES, **_GPT2, rotary_dim=8),
    _family("opt", ffn_dim=96, word_embed_proj_dim=64, intermediate_size=None),
    _family("biogpt"),
    _family("xglm", d_model=64, num_layers=2, attention_heads=4, ffn_dim=96, **_NO_SIZES),
    _family("starcoder2", gguf="starcoder2"),
    _family("stablelm", gguf="stablelm"),
    _family("cohere", gguf="command-r"),
    _family("cohere2", sliding_window=8, num_hidden_layers=4),
    _family("glm", **_WIDE),
    _family("glm4", **_WIDE),
    _family("ernie4_5", **_WIDE),
    _family("helium", **_WIDE),
    _family("exaone4", num_hidden_layers=4, sliding_window=8),
    _family("exaone4-no-window", "exaone4", sliding_window=None, sliding_window_pattern=None,
            layer_types=["full_attention"] * 2),
    _family("hunyuan_v1_dense", **_WIDE),
    _family("jais2"),
    _family("nemotron"),
    _family("apertus"),
    _family("nanochat"),
    _family("bitnet"),
    _family("diffllama"),
    _family("persimmon", num_key_value_heads=None),
    _family("bloom", n_layer=2, n_head=4, **_NO_SIZES | {"hidden_size": 64}),
    _family("falcon", new_decoder_architecture=False, multi_query=True, parallel_attn=True,
            intermediate_size=None),
    _family("falcon-alibi", "falcon", alibi=True, multi_query=False, intermediate_size=None),
    _family("mpt", **_MPT),
    _family("mpt-clip", "mpt", **_MPT, attn_config={"clip_qkv": 0.5}),
    _family("olmo-clip", "olmo", clip_qkv=0.5),
    _family("llama-quick-gelu", "llama", hidden_act="quick_gelu"),
    _family("gpt2-quick-gelu", "gpt2", **_NO_SIZES, **_GPT2, activation_function="quick_gelu"),
    _family("mixtral", num_local_experts=4, num_experts_per_tok=2),
    _family("qwen3_moe", **_WIDE, **_EXPERTS),
    _family("qwen3_moe-normalised", "qwen3_moe", **_WIDE, **_EXPERTS, norm_topk_prob=True),
    _family("olmoe", num_experts=4, num_experts_per_tok=2),
    _family("gpt_oss", **_WIDE, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
    _family("deepseek_v2", **_LATENT, first_k_dense_replace=2, n_routed_experts=4, n_group=1,
            topk_group=1),
    _family("deepseek_v3", **_LATENT, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
            topk_group=1, moe_intermediate_size=32, first_k_dense_replace=1),
    _family("minicpm3", **_LATENT),
    _family("llama4_text", **_WIDE, num_local_experts=4, intermediate_size_mlp=96),
    _family("lfm2", layer_types=["conv", "full_attention"]),
    _family("mamba", state_size=8, num_attention_heads=None, num_key_value_heads=None),
    _family("mamba2", state_size=8, num_heads=8, head_dim=16, n_groups=1,
            num_attention_heads=None, num_key_value_heads=None),
    _family("rwkv", attention_hidden_size=64, num_attention_heads=None, num_key_value_heads=None),
    _family("qwen3_5_text", **_WIDE, layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16,
            linear_value_head_dim=16),
    _family("granitemoehybrid", layer_types=["mamba", "attention"], mamba_n_heads=8,
            mamba_d_head=16, mamba_d_state=8, num_local_experts=0),
    _family("bert", is_decoder=False),
    _family("modernbert-decoder", pad_token_id=0),
)  # fmt: skip
"""Every row. Models of other types need more than a tiny configuration."""
BY_NAME = {family.name: family for family in FAMILIES}
