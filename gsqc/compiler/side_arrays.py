# SPDX-License-Identifier: Apache-2.0
"""The arrays that lie in a bundle beside the codes of a linear's weight: those of adapters that are
not trained, and those that correct the base.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import array_name
from gsqc.bundle.tensor_file import LateTensor
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.models.low_rank import rank_of
from gsqc.passes.outline import Parameter
from gsqc.passes.step import SideArrays, Step

Array = npt.NDArray[Any]
Make = Callable[[], dict[str, Array]]
FIRST_STREAM = 1 << 20
"""Of the random numbers in arrays. The streams before it are those of initial values."""


def side_arrays(step: Step, weights: FrozenWeights, seed: int) -> dict[str, Array | LateTensor]:
    """The arrays of all layers by their names in the bundle, each made when it is written.

    The weights are those that training reads (`FrozenWeights.trained_on`).
    """
    made: dict[str, Array | LateTensor] = {}
    for number, arrays in enumerate(step.adapter_arrays):
        parameter, weight = _weight(step, arrays)
        stream = FIRST_STREAM + number
        make = partial(_of_adapter, arrays.adapter, weights, parameter, weight, seed, stream)
        made |= _late(weight, arrays, make)
    for correction in step.corrections:
        parameter, weight = _weight(step, correction)
        made |= _late(weight, correction, partial(weights.correction, parameter, weight))
    return made


def corrections(step: Step) -> dict[str, int]:
    """The rank of the correction of each weight that has one, by the weight's name."""
    return {_weight(step, arrays)[1]: rank_of(arrays.types) for arrays in step.corrections}


def _weight(step: Step, arrays: SideArrays) -> tuple[Parameter, str]:
    """The parameter of a block that the arrays are beside, and its name in their layer."""
    outline, layer = step.parts, arrays.layer
    parameter = outline.kinds[outline.layer_kinds[layer]].parameters[arrays.position]
    return parameter, outline.names[layer][arrays.position]


def _of_adapter(
    adapter: Adapter,
    weights: FrozenWeights,
    parameter: Parameter,
    weight: str,
    seed: int,
    stream: int,
) -> dict[str, Array]:
    arrays = adapter.arrays(weights.trained_on(parameter, weight), seed, stream)
    return {array_name(name): array for name, array in arrays.items()}


def _late(weight: str, arrays: SideArrays, make: Make) -> dict[str, LateTensor]:
    """The arrays of one linear, all of them made when the first is asked for."""
    left: dict[str, Array] = {}

    def one(name: str) -> Array:
        if not left:
            left.update(make())
        return left.pop(name)  # each is asked for once

    return {
        f"{weight}.{name}": LateTensor(np.dtype(spec.dtype), spec.shape, partial(one, name))
        for name, spec in arrays.types.items()
    }
