# SPDX-License-Identifier: Apache-2.0
"""Weights that a model stores in another form than that of linears, [outputs, inputs]: GPT-2's
Conv1D, and the matrices of experts, of which all are one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsqc.models.loaded import Float32, FloatTensor, GgufTensor, WeightSource

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Layout:
    """How a weight is stored.

    form         matrix: [N, K] is what a linear takes
                 rows: experts' [E, N, K] are the rows of one linear, [E·N, K]
                 columns: experts' [E, N, K] are the columns of one linear, [N, E·K]
                 vectors: experts' [E, N] stay
                 softplus: of a number of an activation, log(1 + exp(w)) + offset is used
    transposed   the last two axes are stored in the other order
    interleaved  rows of gate and up are stored in turns, not first all of one
    """

    form: str
    transposed: bool = False
    interleaved: bool = False
    offset: float = 0.0

    def of_linear(self, weight: Float32) -> Float32:
        """From the stored form to that of a linear."""
        if self.form == "softplus":
            return np.asarray(np.logaddexp(weight, 0) + self.offset, np.float32)
        w = weight.swapaxes(-1, -2) if self.transposed else weight
        if self.interleaved:
            w = _pairs(w, (w.shape[1] // 2, 2))
        if self.form == "rows":
            w = w.reshape(-1, w.shape[-1])
        elif self.form == "columns":
            w = w.swapaxes(0, 1).reshape(w.shape[1], -1)
        return np.ascontiguousarray(w)

    def stored(self, weight: Float32, shape: tuple[int, ...]) -> Float32:
        """From the form of a linear back to the stored one, of that shape."""
        if self.form == "softplus":
            return np.asarray(np.log(np.expm1(weight - self.offset)), np.float32)
        full = (*shape[:-2], *shape[:-3:-1]) if self.transposed else shape
        if self.form == "columns":
            experts, rows, columns = full
            w = weight.reshape(rows, experts, columns).swapaxes(0, 1)
        else:
            w = weight.reshape(full)
        if self.interleaved:
            w = _pairs(w, (2, w.shape[1] // 2))
        return np.ascontiguousarray(w.swapaxes(-1, -2) if self.transposed else w)


def _pairs(w: Float32, parts: tuple[int, int]) -> Float32:
    """The second axis as a matrix of that shape, transposed."""
    rest = w.shape[2:]
    swapped = w.reshape(len(w), *parts, *rest).swapaxes(1, 2)
    return np.asarray(swapped.reshape(w.shape), np.float32)


TRANSPOSED = Layout("matrix", transposed=True)
"""Of GPT-2's Conv1D."""


def expert_layouts(part: Any) -> dict[str, Layout]:
    """The layouts of the parameters of a module that holds experts, by their names in it."""
    turns, flipped = not part.is_concatenated, bool(part.is_transposed)
    return {
        "gate_up_proj": Layout("rows", flipped, turns),
        "down_proj": Layout("columns", flipped),
        "gate_up_proj_bias": Layout("vectors", False, turns),
        "down_proj_bias": TRANSPOSED,
    }


def xielu_layouts(part: Any) -> dict[str, Layout]:
    """The layouts of the numbers of an xIELU, by their names in it."""
    return {"alpha_p": Layout("softplus"), "alpha_n": Layout("softplus", offset=float(part.beta))}


def is_xielu(part: Any) -> bool:
    """Whether a module has the numbers of transformers' xIELU."""
    return all(hasattr(part, name) for name in ("alpha_p", "alpha_n", "beta"))


def holds_experts(part: Any) -> bool:
    """Whether a module is one of transformers' that hold the matrices of all experts."""
    return hasattr(part, "is_concatenated") and hasattr(part, "gate_up_proj")


def stored_layouts(module: torch.nn.Module) -> dict[str, Layout]:
    """The layouts of a model's weights that are not stored as those of linears, by name."""
    from transformers.pytorch_utils import Conv1D

    found: dict[str, Layout] = {}
    for name, part in module.named_modules():
        if isinstance(part, Conv1D):
            found[f"{name}.weight"] = TRANSPOSED
        elif holds_experts(part) or is_xielu(part):
            own = dict(part.named_parameters(recurse=False))
            layouts = xielu_layouts(part) if is_xielu(part) else expert_layouts(part)
            found |= {f"{name}.{key}": layout for key, layout in layouts.items() if key in own}
    return found


class LinearWeights:
    """A source of weights, of which those with a layout have the form of linears."""

    def __init__(self, source: WeightSource, layouts: Mapping[str, Layout]) -> None:
        self._source, self._layouts = source, dict(layouts)

    def names(self) -> list[str]:
        """All parameter names."""
        return self._source.names()

    def float32(self, name: str) -> Float32:
        """The weight as float32."""
        weight = self._source.float32(name)
        return self._layouts[name].of_linear(weight) if name in self._layouts else weight

    def tensor(self, name: str) -> FloatTensor | GgufTensor:
        """The weight as it is stored, or as float32 if it has another layout."""
        if name in self._layouts:
            return FloatTensor(self.float32(name))
        return self._source.tensor(name)

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """The blocks of a GGUF file, whose rows are the outputs of a linear in any case."""
        return self._source.raw_blocks(name)

    def code_kind(self, name: str) -> str:
        """The kind of codes that loses least."""
        return self._source.code_kind(name)
