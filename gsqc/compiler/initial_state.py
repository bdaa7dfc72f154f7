# SPDX-License-Identifier: Apache-2.0
"""The training state that a run begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.compiler.options import CompileOptions
from gsqc.compiler.pipeline import Step
from gsqc.numerics.formats import LEAST_EXPONENT
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.passes.add_optimizer import state_values

Array = npt.NDArray[Any]


def initial_state(step: Step, options: CompileOptions) -> dict[str, Array]:
    """A is uniform in ±1/√k (as PEFT's), B is zero, the optimizer's state is zero at the least
    exponent.
    """
    optimizer = OPTIMIZERS[options.optimizer]
    state: dict[str, Array] = {}
    for stream, (name, shape) in enumerate(sorted(step.adapters.items())):
        zero = np.zeros(shape, np.int32)
        state[name] = (
            uniform_q24(options.seed, stream, shape, shape[1]) if name.endswith("_a") else zero
        )
        for key in state_values(optimizer, shape):
            state[f"{name}.{key}.m"] = zero
            state[f"{name}.{key}.e"] = np.full((shape[0], 1), LEAST_EXPONENT, np.int32)
    return state
