# SPDX-License-Identifier: Apache-2.0
"""Readers of models: a Hugging Face object or directory, a .gguf file, or the name of a known
model.

A reader gives the model as a torch module, whose numbers need not exist (a `meta` module), and its
weights by name. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.loaded import LoadedModel, WeightSource

__all__ = ["LoadedModel", "WeightSource", "load_model"]


def load_model(model: Any) -> LoadedModel:
    """Open a model: a torch module, a directory, a .gguf file, or a known name.

    Raises ModelError.
    """
    from gsqc.models.catalogue import KNOWN_MODELS, find_model
    from gsqc.models.readers.hf import (
        from_directory,
        from_module,
    )  # torch and transformers take seconds to import

    if not isinstance(model, (str, Path)):
        return from_module(model)
    path = Path(model)
    is_there = os.path.exists(path)  # Path.exists raises for a name that is too long
    if not is_there and str(model) in KNOWN_MODELS:
        path, is_there = find_model(str(model)), True
    if os.path.isdir(path):
        return from_directory(path)
    if not is_there:
        known = ", ".join(KNOWN_MODELS)
        raise ModelError(
            f"there is no model {model}",
            f"give a directory, a .gguf file, or a known name: {known}",
        )
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise ModelError(
            f"{path.name} is a pickle, which may run any code",
            "convert the model to safetensors first",
        )
    from gsqc.models.readers.gguf import from_gguf

    return from_gguf(path)
