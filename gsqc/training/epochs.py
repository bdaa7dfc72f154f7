# SPDX-License-Identifier: Apache-2.0
"""count_steps: turns epochs into steps, exactly."""

from __future__ import annotations

import math
from dataclasses import replace

from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_STEPS
from gsqc.training.options import TrainOptions


def count_steps(options: TrainOptions, sequences: int, per_step: int) -> TrainOptions:
    """The options with --steps in place of --epochs: ⌈epochs · sequences / per step⌉.

    sequences  how many are trained on
    per_step   how many a step takes

    Raises OptionError if the run would have no step, or too many, or too few for its warm-up.
    """
    if options.epochs is None:
        return options
    steps = math.ceil(options.exact("epochs") * sequences / per_step)
    if not 1 <= steps <= MAXIMUM_STEPS:
        raise OptionError(
            f"--epochs {options.epochs} of {sequences} sequences are {steps} steps",
            f"a run has 1 to {MAXIMUM_STEPS} steps",
        )
    return replace(options, steps=steps, epochs=None)
