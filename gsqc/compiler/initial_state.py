# SPDX-License-Identifier: Apache-2.0
"""The training state that a run begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import LEAST_EXPONENT
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.passes.add_optimizer import state_values
from gsqc.passes.step import Step

Array = npt.NDArray[Any]


def initial_state(step: Step, seed: int) -> dict[str, Array]:
    """Adapter matrices as their kind begins them; the optimizer's state is zero."""
    optimizer = OPTIMIZERS[step.options.optimizer]
    state: dict[str, Array] = {}
    for stream, (name, matrix) in enumerate(sorted(step.adapters.items())):
        shape, fan_in = matrix.shape, matrix.parameter.fan_in
        zero = np.zeros(shape, np.int32)
        state[name] = uniform_q24(seed, stream, shape, fan_in) if fan_in else zero
        for key in state_values(optimizer, shape):
            state[f"{name}.{key}.m"] = zero
            state[f"{name}.{key}.e"] = np.full((shape[0], 1), LEAST_EXPONENT, np.int32)
    return state
