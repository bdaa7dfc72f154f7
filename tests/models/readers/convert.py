# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny model of transformers as a GGUF file, laid out as llama.cpp's converter does.

Tensor names come from the gguf package, and the changes of layout from the converter's source. So
nothing of gsqc's own tables is used. llama.cpp computes the same logits from the file, which
test_gguf_architectures.py checks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from tests.export.ggml_pack import pack
from tests.export.tiny_gguf import add_tokenizer
from tests.runtime.small_bundle import END

VOCABULARY = END + 4
LAYERS, HIDDEN, HEADS, KEY_HEADS, HEAD_DIM, INNER = 4, 64, 4, 2, 16, 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": END,
}
Array = npt.NDArray[Any]
Values = dict[str, float | bool | str | list[bool]]
Quantise = Callable[[str, Array], gguf.GGMLQuantizationType | None]


def tiny_model(model_type: str, **settings: Any) -> Any:
    """A causal model of transformers with random numbers in every weight, norm and bias."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **{**SIZES, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.set_attn_implementation("eager")  # the only one that knows softcaps
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.15)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2)
            else:
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def _pairs(rows: Array, heads: int) -> Array:
    """LlamaModel.permute of the converter."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _layout(architecture: str, name: str, data: Array) -> Array:
    """modify_tensors of the converter."""
    if architecture in ("llama", "granite", "smollm3", "arcee"):
        for part, heads in (("q_proj", HEADS), ("k_proj", KEY_HEADS)):
            if f"{part}." in name:
                return _pairs(data, heads)
    if architecture.startswith(("gemma", "nemotron")) and name.endswith("norm.weight"):
        return data + np.float32(1)
    if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return np.ascontiguousarray(data.T)
    if architecture == "gptneox" and "query_key_value" in name:
        parts = data.reshape(HEADS, 3, HIDDEN // HEADS, *data.shape[1:])
        return np.concatenate([parts[:, k].reshape(-1, *data.shape[1:]) for k in range(3)])
    return data


def write_model(
    model: Any,
    architecture: str,
    path: Path,
    values: Values,
    kind_of: Quantise | None = None,
    further: dict[str, Array] | None = None,
    part_tensors: int = 0,
) -> Path:
    """Write `model` as a file of `architecture` with further `values`, and return `path`.

    kind_of       the type of a matrix by its name in the file, None for float32
    further       tensors that are no parameters
    part_tensors  how many tensors a part of the file has at most, 0 for a file in one part
    """
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=part_tensors)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(config.num_attention_heads)
    for key, value in values.items():
        _add_value(writer, f"{architecture}.{key}", value)
    add_tokenizer(writer, ("<s>", "<x>"), "gpt-2")
    _add_parameters(writer, model, architecture, kind_of)
    for name, data in (further or {}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_parameters(
    writer: gguf.GGUFWriter, model: Any, architecture: str, kind_of: Quantise | None
) -> None:
    arch = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored, name
        data = np.ascontiguousarray(_layout(architecture, name, parameter.detach().numpy()))
        kind = kind_of(stored, data) if kind_of and data.ndim == 2 else None
        if kind is None:
            writer.add_tensor(stored, data)
        else:
            writer.add_tensor(stored, pack(data, kind), raw_dtype=kind)


def _add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def logits_of(model: Any, tokens: list[int]) -> Array:
    """Logits of transformers' model, [tokens, vocabulary]."""
    with torch.no_grad():
        found: Array = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].numpy()
    return found


def log_probabilities(logits: Array) -> Array:
    """Of the last token's logits [tokens, vocabulary]: [vocabulary]."""
    last = logits[-1] - logits[-1].max()
    found: Array = last - np.log(np.exp(last).sum())
    return found


def logits_of_llama_cpp(path: Path, tokens: list[int], adapter: Path | None = None) -> Array:
    """Log-probabilities that llama.cpp computes behind the tokens, [vocabulary]."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup = str(path), 64, 0, False
    params.cpuparams.n_threads = 1
    if adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    # In float16, where it is not float32, attention would be off by a thousandth.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    request = {
        "prompt": tokens,
        "n_predict": 1,
        "temperature": 0,
        "logit_bias": [[END + 1, 100]],  # a token that is text. It is not in the probabilities
        "logprobs": VOCABULARY,
        "n_probs": VOCABULARY,
    }
    answer = xllamacpp.Server(params).handle_completions(request)
    found = np.full(VOCABULARY, np.nan)
    for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        found[entry["id"]] = entry["logprob"]
    return found


def loaded_model(loaded: Any) -> Any:
    """transformers' model with the weights of a LoadedModel, and the rope of its module."""
    from transformers import AutoModelForCausalLM

    module = loaded.module
    model = AutoModelForCausalLM.from_config(module.config, dtype=torch.float32)
    model.set_attn_implementation("eager")
    state = {
        n: torch.from_numpy(np.array(loaded.weights.float32(n))) for n in loaded.weights.names()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    buffers = dict(module.named_buffers())
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq"):
            buffer.copy_(buffers[name])
    return model.eval()
