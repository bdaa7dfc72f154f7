# SPDX-License-Identifier: Apache-2.0
"""The training state that a run begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import tensor_names
from gsqc.numerics.formats import flatten
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.passes.step import Step

Array = npt.NDArray[Any]


def initial_state(step: Step, seed: int) -> dict[str, Array]:
    """Adapter matrices and the optimizer's state as their kinds begin them."""
    optimizer = step.options.optimizer
    state: dict[str, Array] = {}
    for stream, (name, matrix) in enumerate(sorted(step.adapters.items())):
        shape, fan_in = matrix.shape, matrix.parameter.fan_in
        zero = np.zeros(shape, np.int32)
        state[name] = uniform_q24(seed, stream, shape, fan_in) if fan_in else zero
        for key, value in optimizer.start(shape, seed, stream).items():
            names = tensor_names(f"{name}.{key}", value)
            state |= dict(zip(names, flatten(value), strict=True))
    return state
