# SPDX-License-Identifier: Apache-2.0
"""Models of GGUF files: the module, and the weights as the file stores them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gsqc.errors import ModelError
from gsqc.models.ggml_blocks import READERS
from gsqc.models.loaded import Float32, FloatTensor, GgufTensor, LoadedModel
from gsqc.models.readers.gguf_architectures import ARCHITECTURES, Architecture
from gsqc.models.readers.gguf_config import model_config
from gsqc.models.readers.gguf_file import Block, GgufFile, read_gguf
from gsqc.models.readers.gguf_keys import Keys
from gsqc.models.readers.gguf_rope import OF_ROPE, ROPE_FREQUENCIES
from gsqc.models.readers.gguf_stored import AS_IT_IS, Stored
from gsqc.models.readers.gguf_tensor import check_types, float32_of
from gsqc.models.readers.meta_model import meta_model
from gsqc.models.readers.metadata import checked_metadata
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.special_tokens import tokens_of_gguf

_IN_LAYER = re.compile(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)")
_OUTSIDE = re.compile(r"([a-z_]+)\.(weight|bias)")


class GgufWeights:
    """The weights of a GGUF file by their Hugging Face names, in Hugging Face's order."""

    def __init__(self, file: GgufFile, names: dict[str, str], stored: dict[str, Stored]) -> None:
        self._file, self._names, self._stored = file, names, stored

    def names(self) -> list[str]:
        """All parameter names; a tied head is not among them."""
        return list(self._names)

    def tensor(self, name: str) -> FloatTensor | GgufTensor:
        """The blocks of a weight whose rows are all that the file moves, else its numbers.

        A row is whole blocks, so changing the order of rows changes no code.
        """
        block, stored = self._entry(name)
        if stored is AS_IT_IS:
            return GgufTensor(block.raw, block.type, block.shape)
        if stored.moves_rows_only and len(block.shape) > 1:
            return GgufTensor(stored.from_file(block.raw), block.type, block.shape)
        return FloatTensor(stored.from_file(float32_of(block)))

    def _entry(self, name: str) -> tuple[Block, Stored]:
        if name not in self._names:
            raise ModelError(
                f"{self._file.path.name} has no {name}", "names() lists its parameters"
            )
        return self._file.tensors[self._names[name]], self._stored.get(name, AS_IT_IS)

    @property
    def stored_names(self) -> dict[str, str]:
        """ggml's name of each parameter."""
        return self._names

    def as_in_file(self, name: str, numbers: Float32) -> Float32:
        """The numbers of the weight `name`, as the file would hold them."""
        return self._stored.get(name, AS_IT_IS).to_file(numbers)

    def float32(self, name: str) -> Float32:
        """The weight dequantised, in its own shape."""
        tensor = self.tensor(name)
        return tensor.data if isinstance(tensor, FloatTensor) else float32_of(tensor)

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """uint8 [outputs, bytes per row] of a weight whose codes can be kept; ModelError for
        others.
        """
        kind, (block, stored) = self.code_kind(name), self._entry(name)
        if kind not in READERS:
            raise ModelError(
                f"the codes of {name}, {block.type}, are not kept",
                "choose the base format nf4, gse4 or gse8",
            )
        return block.raw if stored.transposed else stored.from_file(block.raw)

    def code_kind(self, name: str) -> str:
        """The file's own format if its codes can be kept, else gse8, which loses least.

        The codes of a weight that Hugging Face's model has by columns are those of its rows here.
        """
        block, stored = self._entry(name)
        kept = len(block.shape) > 1 and not stored.offset
        return block.type.lower() if kept and block.type.lower() in READERS else "gse8"


def from_gguf(path: Path) -> LoadedModel:
    """Open a .gguf file. Raises ModelError: damaged, an architecture that gsqc does not read,
    tensors of an unknown kind.
    """
    file = read_gguf(path)
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(
            f"{path.name} holds the architecture {name}",
            f"gsqc reads GGUF files of {', '.join(ARCHITECTURES)}",
        )
    architecture = ARCHITECTURES[name]
    names = _parameter_names(file, architecture)
    config = model_config(Keys(file, name, names), architecture)
    module = meta_model(config, [block.shape for block in file.tensors.values()])
    _check(file, names, architecture, module)
    stored = _stored(file, names, architecture, config)
    _scale_frequencies(file, module)
    tokenizer = tokenizer_from_gguf(file.metadata)
    return LoadedModel(module, GgufWeights(file, names, stored), tokenizer, _metadata(file))


def _parameter_names(file: GgufFile, architecture: Architecture) -> dict[str, str]:
    """Hugging Face's name -> ggml's name. A tensor that we would leave out is an error."""
    names: dict[str, str] = {}
    for ggml in file.tensors:
        layer, outside = _IN_LAYER.fullmatch(ggml), _OUTSIDE.fullmatch(ggml)
        if layer and layer[2] in architecture.layer:
            name = f"{architecture.blocks}.{layer[1]}.{architecture.layer[layer[2]]}.{layer[3]}"
            names[name] = ggml
        elif outside and outside[1] in architecture.outside:
            names[f"{architecture.outside[outside[1]]}.{outside[2]}"] = ggml
        elif ggml not in OF_ROPE:
            raise ModelError(
                f"{file.path.name} has a tensor {ggml}, unknown in a plain "
                f"{file.metadata['general.architecture']}",
                "gsqc reads dense decoders without mixtures of experts",
            )
    return names


def _stored(
    file: GgufFile, names: dict[str, str], architecture: Architecture, config: Any
) -> dict[str, Stored]:
    """What the file changes of its parameters, by their names. Most are stored as they are."""
    heads = config.num_attention_heads
    key_value_heads = getattr(config, "num_key_value_heads", heads)
    found = {
        name: architecture.stored(name, file.tensors[ggml].shape, heads, key_value_heads)
        for name, ggml in names.items()
    }
    return {name: stored for name, stored in found.items() if stored is not AS_IT_IS}


def _scale_frequencies(file: GgufFile, module: nn.Module) -> None:
    """rope_freqs holds a divisor for each frequency (Llama 3's rope scaling)."""
    block = file.tensors.get(ROPE_FREQUENCIES)
    if block is None:
        return
    factors = torch.from_numpy(np.array(float32_of(block)))
    for part in module.modules():
        if isinstance(frequencies := getattr(part, "inv_freq", None), torch.Tensor):
            if frequencies.shape != factors.shape:
                raise ModelError(
                    f"{file.path.name} has {len(factors)} rope factors, "
                    f"not one for each of {len(frequencies)} pairs",
                    "fetch it again",
                )
            frequencies.div_(factors)


def _check(
    file: GgufFile, names: dict[str, str], architecture: Architecture, module: nn.Module
) -> None:
    """Every parameter of the module has a tensor of its shape that can be dequantised, and no
    tensor is left over.
    """
    parameters = dict(module.named_parameters())
    for name in parameters.keys() ^ names.keys():
        raise ModelError(
            f"{file.path.name} and its metadata disagree about {name}", "fetch the file again"
        )
    for name, ggml in names.items():
        shape, expected = file.tensors[ggml].shape, tuple(parameters[name].shape)
        if architecture.is_transposed(name):
            expected = expected[::-1]
        if shape != expected:
            raise ModelError(
                f"{ggml} has shape {list(shape)}, not {list(expected)}", "fetch the file again"
            )
    check_types(file)


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
