# SPDX-License-Identifier: Apache-2.0
"""The architectures of GGUF files that gsqc reads: whose model each is, and how it is laid out.

The layouts are those of llama.cpp's converter (conversion/ there), whose tensor names are those of
gguf.constants.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gsqc.models.readers.gguf_stored import (
    AS_IT_IS,
    RowOrder,
    Stored,
    joined_heads,
    key_pairs,
    query_pairs,
)

Names = dict[str, str]


@dataclass(frozen=True)
class Architecture:
    """How a GGUF file stores one of transformers' models.

    model_type  transformers' name of the model
    layer       ggml's names of the tensors of a block -> Hugging Face's names in a layer
    outside     the same for what is outside the blocks
    blocks      what stands before the number of a layer in Hugging Face's names
    orders      the order of rows, by the last part of a name, where it is another in the file
    transposed  the linears that Hugging Face's model stores by columns
    offset      what the file adds to the weights of every RMS norm
    """

    model_type: str
    layer: Names
    outside: Names
    blocks: str = "model.layers"
    orders: dict[str, RowOrder] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    offset: int = 0

    def is_transposed(self, name: str) -> bool:
        """Whether Hugging Face's model stores this parameter by columns."""
        return name.endswith(".weight") and name.split(".")[-2] in self.transposed

    def stored(self, name: str, shape: tuple[int, ...], heads: int, key_heads: int) -> Stored:
        """What the file changes of the parameter `name`, whose tensor has this shape there.

        heads, key_heads  the model's heads of q, and of k and v
        """
        order = self.orders.get(name.split(".")[-2])
        if order is not None:
            return Stored(order(shape[0], heads, key_heads))
        if self.is_transposed(name):
            return Stored(transposed=True)
        is_norm = self.offset and name.endswith("norm.weight")
        return Stored(offset=self.offset) if is_norm else AS_IT_IS


_OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_PROJECTIONS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_FIRST_NORM = {"attn_norm": "input_layernorm"}
_TWO_NORMS = {**_FIRST_NORM, "ffn_norm": "post_attention_layernorm"}
_LLAMA = {**_TWO_NORMS, **_PROJECTIONS, **_GATED}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_NORMS_BEHIND = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_BEHIND = {**_PROJECTIONS, **_GATED, **_HEAD_NORMS, **_NORMS_BEHIND}
_FOUR_NORMS = {**_FIRST_NORM, **_NORMS_BEHIND, "ffn_norm": "pre_feedforward_layernorm"}
_GEMMA2 = {**_FOUR_NORMS, **_PROJECTIONS, **_GATED}
_PAIRS: dict[str, RowOrder] = {"q_proj": query_pairs, "k_proj": key_pairs}
_HUNYUAN = {"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}
_PHI3 = {
    **_TWO_NORMS,
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
_PHI2 = {
    **_FIRST_NORM,
    **_PROJECTIONS,
    "attn_output": "self_attn.dense",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_STARCODER2 = {**_TWO_NORMS, **_PROJECTIONS, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
_SEED_OSS = {
    **_FIRST_NORM,
    "post_attention_norm": "post_attention_layernorm",
    **_PROJECTIONS,
    **_GATED,
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_GPT2_OUTSIDE = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_GPT_NEOX = {
    **_TWO_NORMS,
    "attn_qkv": "attention.query_key_value",
    "attn_output": "attention.dense",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_GPT_NEOX_OUTSIDE = {
    "token_embd": "gpt_neox.embed_in",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": "lm_head",
}

_UNGATED = {"ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_ARCEE = {**_TWO_NORMS, **_PROJECTIONS, **_UNGATED}

ARCHITECTURES = {
    "llama": Architecture("llama", _LLAMA, _OUTSIDE, orders=_PAIRS),
    "qwen2": Architecture("qwen2", _LLAMA, _OUTSIDE),
    "qwen3": Architecture("qwen3", {**_LLAMA, **_HEAD_NORMS}, _OUTSIDE),
    "granite": Architecture("granite", _LLAMA, _OUTSIDE, orders=_PAIRS),
    "smollm3": Architecture("smollm3", _LLAMA, _OUTSIDE, orders=_PAIRS),
    "olmo2": Architecture("olmo2", _BEHIND, _OUTSIDE),
    "exaone4": Architecture("exaone4", _BEHIND, _OUTSIDE),
    "hunyuan-dense": Architecture("hunyuan_v1_dense", {**_LLAMA, **_HUNYUAN}, _OUTSIDE),
    "seed_oss": Architecture("seed_oss", _SEED_OSS, _OUTSIDE),
    "arcee": Architecture("arcee", _ARCEE, _OUTSIDE, orders=_PAIRS),
    "nemotron": Architecture("nemotron", _ARCEE, _OUTSIDE, offset=1),
    "ernie4_5": Architecture("ernie4_5", _LLAMA, _OUTSIDE),
    "command-r": Architecture("cohere", {**_FIRST_NORM, **_PROJECTIONS, **_GATED}, _OUTSIDE),
    "gemma": Architecture("gemma", _LLAMA, _OUTSIDE, offset=1),
    "gemma2": Architecture("gemma2", _GEMMA2, _OUTSIDE, offset=1),
    "gemma3": Architecture("gemma3_text", {**_GEMMA2, **_HEAD_NORMS}, _OUTSIDE, offset=1),
    "phi3": Architecture("phi3", _PHI3, _OUTSIDE),
    "phi2": Architecture("phi", _PHI2, {**_OUTSIDE, "output_norm": "model.final_layernorm"}),
    "starcoder2": Architecture("starcoder2", _STARCODER2, _OUTSIDE),
    "stablelm": Architecture("stablelm", _LLAMA, _OUTSIDE),
    "gpt2": Architecture(
        "gpt2",
        _GPT2,
        _GPT2_OUTSIDE,
        "transformer.h",
        transposed=("c_attn", "c_proj", "c_fc"),
    ),
    "gptneox": Architecture(
        "gpt_neox",
        _GPT_NEOX,
        _GPT_NEOX_OUTSIDE,
        "gpt_neox.layers",
        {"query_key_value": joined_heads},
    ),
}
"""By ggml's name of the architecture (general.architecture)."""
_LAID_OUT_AS = {"mistral": "llama", "olmo3": "olmo2"}


def file_architecture(model_type: str) -> str | None:
    """ggml's name of the architecture of transformers' `model_type`. None if it is not known."""
    names = {architecture.model_type: name for name, architecture in ARCHITECTURES.items()}
    return {**names, **_LAID_OUT_AS}.get(model_type)
