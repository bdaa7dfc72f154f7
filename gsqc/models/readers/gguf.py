# SPDX-License-Identifier: Apache-2.0
"""GGUF models of the llama architecture: the module, and the weights as the file stores them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import nn

from gsqc.errors import ModelError
from gsqc.models.ggml_blocks import READABLE, READERS
from gsqc.models.loaded import Float32, GgufTensor, LoadedModel
from gsqc.models.readers.gguf_config import ARCHITECTURE, llama_config
from gsqc.models.readers.gguf_file import GgufFile, read_gguf
from gsqc.models.readers.meta_model import meta_model
from gsqc.models.readers.metadata import checked_metadata
from gsqc.models.readers.rope_order import pair_order, split_half_order
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.special_tokens import tokens_of_gguf

_ROPE_FACTORS = "rope_freqs.weight"
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)")


class GgufWeights:
    """The weights of a GGUF file by their Hugging Face names, rows of q and k in Hugging Face's
    order.
    """

    def __init__(self, file: GgufFile, names: dict[str, str], heads: dict[str, int]) -> None:
        self._file, self._names, self._heads = file, names, heads

    def names(self) -> list[str]:
        """All parameter names; a tied head is not among them."""
        return list(self._names)

    def tensor(self, name: str) -> GgufTensor:
        """The blocks of a weight. A row is whole blocks, so changing the order of rows changes no
        code.
        """
        if name not in self._names:
            raise ModelError(
                f"{self._file.path.name} has no {name}", "names() lists its parameters"
            )
        block = self._file.tensors[self._names[name]]
        heads = self._heads.get(name.rsplit(".", 2)[-2])
        raw = block.raw if heads is None else split_half_order(block.raw, heads)
        return GgufTensor(raw, block.type, block.shape)

    @property
    def stored_names(self) -> dict[str, str]:
        """ggml's name of each parameter."""
        return self._names

    def in_file_order(self, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rows [N, …] of the weight `name` from Hugging Face's order to the file's."""
        heads = self._heads.get(name.rsplit(".", 2)[-2])
        return rows if heads is None else pair_order(rows, heads)

    def float32(self, name: str) -> Float32:
        """The weight dequantised, in its own shape."""
        return _float32(self.tensor(name))

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """uint8 [N, bytes per row] of a weight whose codes can be kept; ModelError for others."""
        tensor = self.tensor(name)
        if tensor.type.lower() not in READERS:
            raise ModelError(
                f"the codes of {name}, {tensor.type}, are not kept",
                "choose the base format nf4, gse4 or gse8",
            )
        return tensor.raw

    def code_kind(self, name: str) -> str:
        """The file's own format if its codes can be kept, else gse8, which loses least."""
        kind = self.tensor(name).type.lower()
        return kind if kind in READERS else "gse8"


def _float32(tensor: GgufTensor) -> Float32:
    array: Float32 = dequantize(np.ascontiguousarray(tensor.raw), GGMLQuantizationType[tensor.type])
    return np.asarray(array, np.float32).reshape(tensor.shape)


def from_gguf(path: Path) -> LoadedModel:
    """Open a .gguf file. Raises ModelError: damaged, another architecture, tensors of an unknown
    kind.
    """
    file = read_gguf(path)
    architecture = file.metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise ModelError(
            f"{path.name} holds the architecture {architecture}",
            f"gsqc reads GGUF files of {ARCHITECTURE}",
        )
    names = _parameter_names(file)
    config = llama_config(file, names)
    module = meta_model(config, [block.shape for block in file.tensors.values()])
    _check(file, names, module)
    _scale_frequencies(file, module)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tokenizer = tokenizer_from_gguf(file.metadata)
    return LoadedModel(module, GgufWeights(file, names, heads), tokenizer, _metadata(file))


def _parameter_names(file: GgufFile) -> dict[str, str]:
    """Hugging Face's name -> ggml's name. A tensor that we would leave out is an error."""
    names: dict[str, str] = {}
    for ggml in file.tensors:
        layer = _LAYER_TENSOR.fullmatch(ggml)
        if ggml in _OUTSIDE:
            names[_OUTSIDE[ggml]] = ggml
        elif layer and layer[2] in _IN_LAYER:
            names[f"model.layers.{layer[1]}.{_IN_LAYER[layer[2]]}.{layer[3]}"] = ggml
        elif ggml != _ROPE_FACTORS:
            raise ModelError(
                f"{file.path.name} has a tensor {ggml}, unknown in a plain llama",
                "gsqc reads dense Llama-like decoders without mixtures of experts",
            )
    return names


def _scale_frequencies(file: GgufFile, module: nn.Module) -> None:
    """rope_freqs holds a divisor for each frequency (Llama 3's rope scaling)."""
    block = file.tensors.get(_ROPE_FACTORS)
    if block is None:
        return
    factors = torch.from_numpy(np.array(_float32(GgufTensor(block.raw, block.type, block.shape))))
    for part in module.modules():
        if isinstance(frequencies := getattr(part, "inv_freq", None), torch.Tensor):
            if frequencies.shape != factors.shape:
                raise ModelError(
                    f"{file.path.name} has {len(factors)} rope factors, "
                    f"not one for each of {len(frequencies)} pairs",
                    "fetch it again",
                )
            frequencies.div_(factors)


def _check(file: GgufFile, names: dict[str, str], module: nn.Module) -> None:
    """Every parameter of the module has a tensor of its shape that can be dequantised, and no
    tensor is left over.
    """
    parameters = dict(module.named_parameters())
    for name in parameters.keys() ^ names.keys():
        raise ModelError(
            f"{file.path.name} and its metadata disagree about {name}", "fetch the file again"
        )
    for name, ggml in names.items():
        block = file.tensors[ggml]
        if block.shape != tuple(parameters[name].shape):
            expected = list(parameters[name].shape)
            raise ModelError(
                f"{ggml} has shape {list(block.shape)}, not {expected}", "fetch the file again"
            )
    for kind in sorted({block.type for block in file.tensors.values()}):
        quantisation = GGMLQuantizationType[kind]
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[quantisation][1]), np.uint8), quantisation)
        except NotImplementedError as error:
            raise ModelError(
                f"{file.path.name} has tensors of type {kind}",
                f"gsqc reads {READABLE}",
            ) from error


def _check_tokens(file: GgufFile) -> None:
    for key in ("eos", "bos"):
        token = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token is not None and type(token) is not int:
            raise ModelError(f"{file.path.name} has an {key} that is no token", "fetch it again")


def _chat_template(data: dict[str, Any]) -> Any:
    """The template, or a list of named ones as tokenizer_config.json has them."""
    default, names = data.get("tokenizer.chat_template"), data.get("tokenizer.chat_templates")
    if not isinstance(names, list) or not names:
        return default
    named = {n: data.get(f"tokenizer.chat_template.{n}") for n in names if isinstance(n, str)}
    named = {**named, "default": default}
    return [{"name": n, "template": t} for n, t in named.items() if t is not None]


def _metadata(file: GgufFile) -> dict[str, Any]:
    data = file.metadata
    _check_tokens(file)
    said = {
        "name": data.get("general.name") or file.path.stem,
        "license": data.get("general.license"),
        **tokens_of_gguf(data),
        "chat_template": _chat_template(data),
        "tokenizer": "from the GGUF file's metadata"
        if "tokenizer.ggml.model" in data
        else "none: the file has none",
    }
    return checked_metadata(said, file.path.name)
