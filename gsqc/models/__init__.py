# SPDX-License-Identifier: Apache-2.0
"""Readers of models: a Hugging Face object or directory, a .gguf file, or the name of a known
model.

A reader gives the model as a torch module, whose numbers need not exist (a `meta` module), and its
weights by name. Nothing is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gsqc.errors import ModelError

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]
FLOAT_KIND = "nf4"
"""The codes that a weight gets which is not stored in a format whose codes can be kept."""


@dataclass(frozen=True)
class FloatTensor:
    """A weight as numbers: `data` is float32."""

    data: Float32

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.data.shape)


@dataclass(frozen=True)
class GgufTensor:
    """A weight as a GGUF file stores it, its rows in Hugging Face's order.

    raw    uint8 [N, bytes per row] (N = 1 for a vector)
    type   ggml's name of the block format: Q4_1, Q8_0, F32, …
    shape  the weight's own shape, (N, K) or (K,)
    """

    raw: npt.NDArray[np.uint8]
    type: str
    shape: tuple[int, ...]


class WeightSource(Protocol):
    """A model's weights by their Hugging Face parameter names. Unknown names raise ModelError."""

    def names(self) -> list[str]:
        """All parameter names; tied parameters have one."""

    def tensor(self, name: str) -> FloatTensor | GgufTensor:
        """The weight as it is stored."""

    def float32(self, name: str) -> Float32:
        """The weight as float32, dequantised if need be."""

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """uint8 [N, bytes per row] of a weight whose `code_kind` is a ggml type; ModelError for
        others.
        """

    def code_kind(self, name: str) -> str:
        """q4_0, q4_1 or q8_0 if the weight is stored so, and its codes can be kept exactly; else
        nf4.
        """


@dataclass(frozen=True)
class LoadedModel:
    """What a reader gives.

    rope_tables      a maker of (cos, sin), each float64 [T, D/2], where the module's own rotary embedding is not enough
    tokenizer_json   the text of a tokenizer.json, or None
    metadata         name, license, eos_token_id, bos_token_id, chat_template: JSON values, None where unknown
    """

    module: torch.nn.Module
    weights: WeightSource
    tokenizer_json: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def load_model(model: Any) -> LoadedModel:
    """Open `model`: a torch module, a directory, a .gguf file, or a known name. Raises ModelError."""
    from gsqc.models.catalogue import KNOWN_MODELS, find_model
    from gsqc.models.readers.hf import (
        from_directory,
        from_module,
    )  # torch and transformers take seconds to import

    if not isinstance(model, (str, Path)):
        return from_module(model)
    path = Path(model)
    if not path.exists() and str(model) in KNOWN_MODELS:
        path = find_model(str(model))
    if path.is_dir():
        return from_directory(path)
    if not path.exists():
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
