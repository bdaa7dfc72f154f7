# SPDX-License-Identifier: Apache-2.0
"""Hugging Face models: an object in memory, or a directory with config.json and safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gsqc.errors import ModelError
from gsqc.models.loaded import Float32, FloatTensor, LoadedModel
from gsqc.models.readers.hf_config import read_config, require_decoder
from gsqc.models.readers.hf_tokenizer import tokenizer_of
from gsqc.models.readers.meta_model import meta_model, meta_wrapper
from gsqc.models.readers.metadata import checked_metadata
from gsqc.models.readers.model_tensors import ModelTensors, model_tensors
from gsqc.models.readers.stored_tensors import StoredTensor, require_known, stored_tensors
from gsqc.models.readers.text_files import read_object, read_text
from gsqc.models.readers.wrappers import text_part
from gsqc.models.special_tokens import tokens_of_directory

_MOST_TEMPLATES = 16


class FloatWeights:
    """Weights as float tensors. `read` gives one by name; `aliases` are the names of each
    parameter, its own first.
    """

    def __init__(self, aliases: dict[str, list[str]], read: Callable[[str], torch.Tensor]) -> None:
        self._names, self._read = list(aliases), read

    def names(self) -> list[str]:
        """All parameter names; tied parameters have one."""
        return list(self._names)

    def float32(self, name: str) -> Float32:
        """The weight as float32."""
        if name not in self._names:
            raise ModelError(f"the model has no parameter {name}", "names() lists its parameters")
        array: Float32 = self._read(name).detach().to("cpu", torch.float32).numpy()
        return array

    def tensor(self, name: str) -> FloatTensor:
        """The weight as float32, with its shape."""
        return FloatTensor(self.float32(name))

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """Floats have no blocks: raises ModelError."""
        raise ModelError(
            f"{name} is stored as floats, not as GGUF blocks", "choose the base format nf4 or gse4"
        )

    def code_kind(self, name: str) -> str:
        """nf4, for weights that come as floats."""
        return "nf4"


def parameter_aliases(module: nn.Module) -> dict[str, list[str]]:
    """The names of each parameter: several where parameters are tied; the first is the one that
    gsqc uses.
    """
    first: dict[int, str] = {}
    aliases: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        aliases.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return aliases


def from_module(model: Any) -> LoadedModel:
    """A Hugging Face model object. It is not changed, and its weights are read when they are asked
    for.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(
            f"a {type(model).__name__} is not a model",
            "give a transformers model, a directory, or a .gguf file",
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if any(p.is_meta for p in parameters.values()):
        raise ModelError(
            "the model has no weights (meta tensors)",
            "load it with from_pretrained, without a device map",
        )
    config: Any = model.config
    metadata = {
        "name": Path(str(getattr(config, "name_or_path", "") or type(model).__name__)).name,
        "license": None,
        **_token_ids(config),
        "chat_template": None,
        "tokenizer": "none: a model object comes without one",
    }
    weights = FloatWeights(parameter_aliases(model), lambda name: parameters[name])
    return LoadedModel(model, weights, None, metadata)


def from_directory(path: Path) -> LoadedModel:
    """A directory with config.json, *.safetensors and, if it has one, tokenizer.json. Raises
    ModelError.

    Of a model that also sees, the language model is taken.
    """
    files = stored_tensors(path)
    module, tensors, notes = _opened(path, files)
    require_known(tensors.module, path, tensors.unknown)
    return loaded_directory(path, module, tensors, notes)


def loaded_directory(
    path: Path,
    module: nn.Module,
    tensors: ModelTensors,
    notes: list[str],
    fresh: Mapping[str, torch.Tensor] | None = None,
) -> LoadedModel:
    """The model of a directory. `fresh` are parameters that its files lack."""
    aliases, made = parameter_aliases(module), dict(fresh or {})
    there = {name: names for name, names in aliases.items() if name not in made}
    stored = _found(path, module, there, tensors.shapes)

    def read(name: str) -> torch.Tensor:
        return made[name] if name in made else tensors.read(stored[name])

    tokenizer, origin = tokenizer_of(path)
    metadata = {**metadata_of(path, module, tokenizer, origin), "notes": notes}
    return LoadedModel(module, FloatWeights(aliases, read), tokenizer, metadata)


def _opened(
    path: Path, files: Mapping[str, StoredTensor]
) -> tuple[nn.Module, ModelTensors, list[str]]:
    """The language model, its tensors, and what a user has to know of how it was opened."""
    config, shapes = read_config(path), [tensor.shape for tensor in files.values()]
    inner = text_part(config)
    if inner is None:
        require_decoder(config)
        module = meta_model(config, shapes)
        tensors = model_tensors(module, files)
        notes = []
    else:
        tensors = model_tensors(meta_wrapper(config, shapes), files).part(inner.name)
        kind, config = config.model_type, inner.config
        module = meta_model(config, shapes)
        notes = [
            f"only the text part of this {kind} model is taken, which is a {config.model_type} "
            "model. It sees no images without --image-rows (docs/images.md)"
        ]
    if _untied(tensors, parameter_aliases(module)):
        config.tie_word_embeddings = False
        module = meta_model(config, shapes)
    return module, tensors, notes


def _found(
    path: Path, module: nn.Module, aliases: Mapping[str, list[str]], shapes: Mapping[str, Any]
) -> dict[str, str]:
    """The name that each parameter's tensor has. ModelError if one lacks or has another shape."""
    found = {name: next((a for a in names if a in shapes), "") for name, names in aliases.items()}
    missing = [name for name, alias in found.items() if not alias]
    if missing:
        raise ModelError(
            f"{path.name} lacks {len(missing)} weights of its config.json, first {missing[0]}",
            "fetch the model again; a quantised checkpoint must be converted to floats first",
        )
    parameters = dict(module.named_parameters())
    for name, alias in found.items():
        shape = shapes[alias]
        if shape != tuple(parameters[name].shape):
            raise ModelError(
                f"{name} has shape {list(shape)}, config.json says {list(parameters[name].shape)}",
                "config.json and the safetensors are of two models: fetch both again",
            )
    return found


def _untied(tensors: ModelTensors, aliases: Mapping[str, list[str]]) -> bool:
    """Whether tied parameters are stored with different numbers. As in transformers, they count."""
    for names in aliases.values():
        first, *others = [name for name in names if name in tensors.shapes] or [""]
        for other in others:
            if tensors.shapes[first] != tensors.shapes[other]:
                return True
            if not torch.equal(tensors.read(first), tensors.read(other)):
                return True
    return False


# ------------------------------------------------------------------------------------------------
# files


def _token_ids(config: Any) -> dict[str, Any]:
    return {key: getattr(config, key, None) for key in ("eos_token_id", "bos_token_id")}


def _chat_template(path: Path, tokenizer_config: dict[str, Any]) -> Any:
    """The template, or a list of named ones. As in transformers, files go before the setting.

    chat_template.json is where older models that see images have theirs.
    """
    default = read_text(path / "chat_template.jinja")
    older = read_object(path / "chat_template.json").get("chat_template")
    if default is None and isinstance(older, str):
        default = older
    further = sorted((path / "additional_chat_templates").glob("*.jinja"))[:_MOST_TEMPLATES]
    if default is None and not further:
        return tokenizer_config.get("chat_template")
    if not further:
        return default
    named = {} if default is None else {"default": default}
    named |= {file.stem: read_text(file) or "" for file in further}
    return [{"name": name, "template": text} for name, text in named.items()]


def metadata_of(path: Path, module: Any, tokenizer: str | None, origin: str) -> dict[str, Any]:
    """What the files of a directory say of its model's tokens. Raises ModelError."""
    generation = read_object(path / "generation_config.json")
    tokenizer_config = read_object(path / "tokenizer_config.json")
    named = tokenizer_config, read_object(path / "special_tokens_map.json")
    said = {
        "name": path.resolve().name,
        "license": None,
        **tokens_of_directory(_token_ids(module.config), generation, named, tokenizer),
        "chat_template": _chat_template(path, tokenizer_config),
        "tokenizer": origin,
    }
    return checked_metadata(said, path.name)
