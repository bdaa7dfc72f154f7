# SPDX-License-Identifier: Apache-2.0
"""What a reader of models gives: a torch module, the weights by name, a tokenizer and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]


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
        """The kind of codes that loses least: ggml's own format in lower case if its codes can be
        kept, else one of gsqc's.
        """


@dataclass(frozen=True)
class LoadedModel:
    """What a reader gives.

    module          a causal language model of transformers, or a classifier of texts, whose weights
                    need not exist
    weights         its weights by name
    tokenizer_json  the text of a tokenizer.json, or None
    metadata        name, license, eos_token_id, bos_token_id, special_tokens, end_token_ids,
                    chat_template, tokenizer: values of JSON, None where unknown
    labels          the names of a classifier's classes, None for a language model
    """

    module: torch.nn.Module
    weights: WeightSource
    tokenizer_json: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
