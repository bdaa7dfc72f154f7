# SPDX-License-Identifier: Apache-2.0
"""Optimizers: each is an op, the state that it keeps, and the integers that a step gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from gsqc.numerics.ops.adamw import adamw
from gsqc.numerics.ops.registry import Op
from gsqc.numerics.ops.sgd import sgd
from gsqc.numerics.optim.schedule_inputs import adamw_correction, scalar_inputs

BETA1 = 1932735283
BETA2 = 2145336164
"""Adam's decay rates 0.9 and 0.999, as integers over 2^31."""

MOMENT_BITS = 30
"""Bits of a moment. It lies in an int32, so it keeps 30. With 24, a small root sticks
(tests/numerics/ops/test_adamw.py).
"""

INPUTS = (
    "inverse_tokens_m",
    "inverse_tokens_e",
    "learning_rate_m",
    "learning_rate_e",
    "decay_m",
    "decay_e",
)
"""What every optimizer is given: a mantissa and an exponent of each number."""

CLIP_INPUTS = ("clip_m", "clip_e")
"""The largest norm of the gradient. A mantissa of 0 says that the step does not clip."""

STEP_NUMBER = "step_number"
"""A further input of bundles that draw by chance: the number of the step from 1 on, modulo 2^31."""


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer.

    op          op(p, *state, gradient's high and low limb, *inputs, **attributes) -> p, *state
    state_bits  bits of its state by name: Rows [R, K] for a matrix [R, K], zero before step 1
    attributes  decay rates of its moments, over 2^31
    correction  (attributes, step) -> what bias correction multiplies the learning rate by
    inputs      names of its integer inputs, int32 [1, 1] each, in the op's order
    """

    name: str
    op: Op
    state_bits: Mapping[str, int]
    attributes: Mapping[str, int]
    correction: Callable[[Mapping[str, int], int], Fraction]
    inputs: tuple[str, ...] = INPUTS

    def step_inputs(
        self,
        learning_rate: Fraction,
        weight_decay: Fraction,
        step: int,
        weight_sum: int,
        clip: Fraction | None = None,
    ) -> dict[str, int]:
        """The integers of step 1, 2, …, by name: the op's own `inputs`, and CLIP_INPUTS.

        weight_sum  the sum of the batch's token weights, in Q14
        clip        the largest norm of the gradient, or None
        """
        correction = self.correction(self.attributes, step)
        return scalar_inputs(learning_rate, weight_decay, correction, weight_sum, clip)


OPTIMIZERS: Mapping[str, OptimizerSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            OptimizerSpec(
                "adamw",
                adamw,
                {"moment": MOMENT_BITS, "root": MOMENT_BITS},
                {"beta1": BETA1, "beta2": BETA2},
                adamw_correction,
            ),
            OptimizerSpec(
                "sgd", sgd, {"momentum": MOMENT_BITS}, {"beta": BETA1}, lambda _, step: Fraction(1)
            ),
        )
    }
)
"""Optimizers by the name that `--optimizer` takes."""
