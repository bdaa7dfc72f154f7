# SPDX-License-Identifier: Apache-2.0
"""Weights that a model stores as [inputs, outputs], as GPT-2's Conv1D does: read as those of
linears, which are [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gsqc.models.loaded import Float32, FloatTensor, GgufTensor, WeightSource

if TYPE_CHECKING:
    import torch


def conv1d_weights(module: torch.nn.Module) -> set[str]:
    """The names of the weights of a model's Conv1D modules."""
    from transformers.pytorch_utils import Conv1D

    return {f"{n}.weight" for n, part in module.named_modules() if isinstance(part, Conv1D)}


class TransposedWeights:
    """A source of weights in which those of some names are transposed."""

    def __init__(self, source: WeightSource, transposed: Iterable[str]) -> None:
        self._source, self._transposed = source, frozenset(transposed)

    def names(self) -> list[str]:
        """All parameter names."""
        return self._source.names()

    def float32(self, name: str) -> Float32:
        """The weight as float32."""
        weight = self._source.float32(name)
        return np.ascontiguousarray(weight.T) if name in self._transposed else weight

    def tensor(self, name: str) -> FloatTensor | GgufTensor:
        """The weight as it is stored, or as float32 if it is transposed."""
        if name in self._transposed:
            return FloatTensor(self.float32(name))
        return self._source.tensor(name)

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """The blocks of a GGUF file, whose rows are the outputs of a linear in any case."""
        return self._source.raw_blocks(name)

    def code_kind(self, name: str) -> str:
        """The kind of codes that loses least."""
        return self._source.code_kind(name)
