# SPDX-License-Identifier: Apache-2.0
"""The tiny Llama as a GGUF file, laid out as llama.cpp's converter does. Its linears are Q4_1, or
what a test asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind

from gsqc.models.readers.rope_order import pair_order
from tests.export.ggml_pack import pack
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
OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}
Array = npt.NDArray[Any]


def _q4_1(_: int, name: str) -> Kind:
    return Kind.Q4_1


def write_tiny_gguf(
    path: Path,
    *further: str,
    pre: str = "gpt-2",
    kind_of: Callable[[int, str], Kind] = _q4_1,
    sizes: dict[str, int] | None = None,
    model: dict[str, float] | None = None,
    **settings: Any,
) -> Path:
    """Write the model to `path`, and return `path`.

    further   control tokens behind <end> and a token "ab", without which llama.cpp reads no file
    pre       the kind of byte-level tokenizer
    kind_of   the type of a linear, by its layer and ggml's name of it
    sizes     changes of the model's configuration
    model     further metadata of the architecture, such as rope.scaling.factor
    settings  further metadata of the tokenizer, such as bos_token_id
    """
    vocabulary = VOCABULARY + (1 + len(further) if further else 0)
    built = tiny_llama(vocab_size=vocabulary, eos_token_id=END, **sizes or {})
    writer = gguf.GGUFWriter(path, "llama")
    _add_settings(writer, built.config)
    for key, value in (model or {}).items():
        writer.add_float32(f"llama.{key}", value)
    add_tokenizer(writer, further, pre)
    for name, value in settings.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"tokenizer.ggml.{name}", value)
    for name, parameter in built.named_parameters():
        _add_tensor(writer, built.config, name, parameter.detach().numpy(), kind_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)


def add_tokenizer(writer: gguf.GGUFWriter, further: tuple[str, ...], pre: str) -> None:
    """Add byte-level BPE with `further` control tokens, cut as `pre`."""
    vocabulary = byte_tokenizer().get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens, types = sorted(vocabulary, key=vocabulary.__getitem__), [gguf.TokenType.NORMAL] * END
    types.append(gguf.TokenType.CONTROL)
    if further:
        tokens += ["ab", *further]
        types += [gguf.TokenType.NORMAL] + [gguf.TokenType.CONTROL] * len(further)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["a b"] if further else [])
    writer.add_eos_token_id(END)


def _add_tensor(
    writer: gguf.GGUFWriter,
    config: Any,
    name: str,
    data: Array,
    kind_of: Callable[[int, str], Kind],
) -> None:
    """Add a parameter under ggml's name."""
    if name in OUTER_NAMES:
        writer.add_tensor(OUTER_NAMES[name], data)
        return
    parts = name.split(".")
    short = NAMES[".".join(parts[3:-1])]
    heads = {
        "attn_q": config.num_attention_heads,
        "attn_k": config.num_key_value_heads,
    }
    if short in heads:
        data = pair_order(data, heads[short])
    stored = f"blk.{parts[2]}.{short}.weight"
    if data.ndim == 2:
        kind = kind_of(int(parts[2]), short)
        packed = gguf.quants.quantize(data, kind) if kind is Kind.Q4_1 else pack(data, kind)
        writer.add_tensor(stored, packed, raw_dtype=kind)
    else:
        writer.add_tensor(stored, data)
