# SPDX-License-Identifier: Apache-2.0
"""The arrays of adapters that are not trained, as a bundle holds them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import array_name
from gsqc.bundle.tensor_file import LateTensor
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.passes.step import AdapterArrays, Step

Array = npt.NDArray[Any]
FIRST_STREAM = 1 << 20
"""Of the random numbers in arrays. The streams before it are those of initial values."""


def adapter_arrays(step: Step, weights: FrozenWeights, seed: int) -> dict[str, Array | LateTensor]:
    """The arrays of all layers, each made when it is written."""
    made: dict[str, Array | LateTensor] = {}
    for number, linear in enumerate(step.adapter_arrays):
        maker = _Maker(step, weights, linear, seed, FIRST_STREAM + number)
        for name, spec in linear.types.items():
            late = LateTensor(np.dtype(spec.dtype), spec.shape, partial(maker.array, name))
            made[f"{maker.weight}.{array_name(name)}"] = late
    return made


class _Maker:
    """Makes the arrays of one linear, all of them when the first is asked for."""

    def __init__(
        self, step: Step, weights: FrozenWeights, linear: AdapterArrays, seed: int, stream: int
    ) -> None:
        outline, layer = step.parts, linear.layer
        self.adapter: Adapter = linear.adapter
        self.parameter = outline.kinds[outline.layer_kinds[layer]].parameters[linear.position]
        self.weight = outline.names[layer][linear.position]
        self.weights, self.seed, self.stream = weights, seed, stream
        self.left: dict[str, Array] = {}

    def array(self, name: str) -> Array:
        """An array. Each is asked for once."""
        if not self.left:
            w = self.weights.trained_on(self.parameter, self.weight)
            self.left = dict(self.adapter.arrays(w, self.seed, self.stream))
        return self.left.pop(name)
