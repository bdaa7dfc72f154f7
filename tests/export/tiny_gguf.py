# SPDX-License-Identifier: Apache-2.0
"""The tiny Llama as a GGUF file whose linears are Q4_1, with a byte tokenizer, as llama.cpp's
converter lays it out.
"""

from __future__ import annotations

from pathlib import Path

import gguf
from gguf import GGMLQuantizationType as Kind

from gsqc.models.readers.rope_order import pair_order
from tests.models.capture.tiny import tiny_llama
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_tiny_gguf(path: Path) -> Path:
    model = tiny_llama(vocab_size=VOCABULARY, eos_token_id=END)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    vocabulary = byte_tokenizer().get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([gguf.TokenType.NORMAL] * END + [gguf.TokenType.CONTROL])
    writer.add_token_merges([])
    writer.add_eos_token_id(END)
    for name, parameter in model.named_parameters():
        data, parts = parameter.detach().numpy(), name.split(".")
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", data)
        elif name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", data)
        else:
            short = NAMES[".".join(parts[3:-1])]
            heads = {
                "attn_q": config.num_attention_heads,
                "attn_k": config.num_key_value_heads,
            }.get(short)
            data = data if heads is None else pair_order(data, heads)
            packed = gguf.quants.quantize(data, Kind.Q4_1) if data.ndim == 2 else data
            writer.add_tensor(
                f"blk.{parts[2]}.{short}.weight",
                packed,
                raw_dtype=Kind.Q4_1 if data.ndim == 2 else None,
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
