# SPDX-License-Identifier: Apache-2.0
"""Readers of models: a Hugging Face object or directory, a .gguf, .onnx or .pt2 file, the name of a
known model, or that of a model in the hub's cache.

A reader gives the model as a torch module, whose numbers need not exist (a `meta` module), and its
weights by name. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.catalogue import KNOWN_MODELS, find_model
from gsqc.models.hub import cached_model, is_hub_name
from gsqc.models.loaded import LoadedModel, WeightSource

__all__ = ["LoadedModel", "WeightSource", "load_classifier", "load_model", "model_path"]


def load_model(model: Any) -> LoadedModel:
    """Open a model: a torch module, a directory, a .gguf, .onnx or .pt2 file, a known name, or the
    name ORG/NAME of a model in the hub's cache on this disk.

    Raises ModelError, and OptionError if a package that reads the file is missing.
    """
    from gsqc.models.readers.hf import (
        from_directory,
        from_module,
    )  # torch and transformers take seconds to import

    if not isinstance(model, (str, Path)):
        return from_module(model)
    path = model_path(str(model))
    if os.path.isdir(path):
        return _with_hub_name(from_directory(path), str(model))
    if path.suffix.lower() in PROGRAMS:
        from gsqc.models.readers.program import from_program

        return from_program(path)
    _refuse_other_files(path)
    from gsqc.models.readers.gguf import from_gguf

    return from_gguf(path)


PROGRAMS = (".onnx", ".pt2")
"""Suffixes of files with a program that is captured."""
_EXPORTS = (".pte", ".tflite", ".mlmodel", ".mlpackage", ".engine")


def load_classifier(model: Any, labels: str | tuple[str, ...] = "") -> LoadedModel:
    """Open an encoder that is to classify texts: a directory, a name in the hub's cache, or a
    classifier of transformers.

    labels  the names of the classes, also with commas between, or their number. Without them,
            those of the model

    Raises ModelError, OptionError.
    """
    from gsqc.models.readers.hf_classifier import classifier_from_directory, classifier_from_module

    if not isinstance(model, (str, Path)):
        return classifier_from_module(model, labels)
    path = model_path(str(model))
    if not os.path.isdir(path):
        _refuse_other_files(path)
        raise ModelError(
            f"{path.name} is a file, and --task classify takes a directory",
            "give the directory of an encoder, with config.json and safetensors",
        )
    return _with_hub_name(classifier_from_directory(path, labels), str(model))


def _with_hub_name(loaded: LoadedModel, model: str) -> LoadedModel:
    """The model under its name in the hub, if it has one: its directory is named after a commit."""
    if not os.path.exists(model) and is_hub_name(model):
        loaded.metadata["name"] = model
    return loaded


def _refuse_other_files(path: Path) -> None:
    """ModelError for a file that is of another kind by its suffix."""
    kind = path.suffix.lower()
    if kind in (".bin", ".pt", ".pth", ".ckpt"):
        raise ModelError(
            f"{path.name} is a pickle, which may run any code",
            "convert the model to safetensors first",
        )
    if kind == ".safetensors":
        raise ModelError(
            f"{path.name} holds weights without a configuration",
            "give its directory, with config.json in it",
        )
    if kind in _EXPORTS:
        raise ModelError(
            f"{path.name} is an export ({kind}), which no longer shows what the model is made of",
            "give what it was exported from: a directory with config.json, or a .gguf file. gsqc "
            "reads exports as .onnx and .pt2",
        )


def model_path(model: str) -> Path:
    """The directory or file of a model that is given by its path or by a name. Raises ModelError.

    What is there under the path itself goes before a name.
    """
    if os.path.exists(model):  # Path.exists raises for a name that is too long
        return Path(model)
    if model in KNOWN_MODELS:
        return find_model(model)
    if (cached := cached_model(model)) is not None:
        return cached
    known = ", ".join(KNOWN_MODELS)
    hint = f"give a directory, a .gguf, .onnx or .pt2 file, or a known name: {known}"
    if is_hub_name(model):
        hint = "it is not in the hub's cache here either. Fetch it with --download, or " + hint
    raise ModelError(f"there is no model {model}", hint)
