# SPDX-License-Identifier: Apache-2.0
"""What an optimizer is: settings, the state of a matrix, and the integers that a step gives it.

An optimizer is one file of this folder. Its op stands in the same file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

import numpy as np

from gsqc.named import Named
from gsqc.numerics.formats import LEAST_EXPONENT, Row, Spec, Value
from gsqc.numerics.ops.registry import Op
from gsqc.numerics.optim.schedule_inputs import scalar_inputs

Shape = tuple[int, int]
State = Mapping[str, Value]
"""What an optimizer keeps for a matrix, by name."""

INPUTS = (
    "inverse_tokens_m",
    "inverse_tokens_e",
    "learning_rate_m",
    "learning_rate_e",
    "decay_m",
    "decay_e",
)
"""The numbers of a step that the host computes: a mantissa and an exponent of each."""

SCALAR = Spec((1, 1), "int32")
STEP_NUMBER = "step_number"
"""An input of bundles that draw by chance: the number of the step from 1 on, modulo 2^31."""
CLIP_INPUTS = ("clip_m", "clip_e")
"""The largest norm of the gradient. A mantissa of 0 says that the step does not clip."""


class Optimizer(Named, ABC):
    """The settings of a kind of optimizer. A kind is a frozen dataclass of options.

    kind            its name in `--optimizer`
    op              op(p, *state, gradient's high and low limb, *inputs, **attributes) gives the
                    next p, and the next values of its state
    schedules       what of a plan a step runs
    differentiates  whether a step computes gradients. Without them the op takes no limbs, and gives
                    the next p alone
    """

    op: ClassVar[Op]
    schedules: ClassVar[tuple[str, ...]] = ("train", "gradient", "clip", "update")
    differentiates: ClassVar[bool] = True

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """The types of the op's integer inputs by name, in its order."""
        return dict.fromkeys(INPUTS, SCALAR)

    @property
    def all_inputs(self) -> Mapping[str, Spec]:
        """The types of all that a step writes for the functions of its schedules, by name."""
        return {**self.inputs, **dict.fromkeys(CLIP_INPUTS, SCALAR)}

    @property
    @abstractmethod
    def attributes(self) -> Mapping[str, int]:
        """The attributes of the op."""

    @abstractmethod
    def state(self, shape: Shape) -> State:
        """The types of what it keeps for a matrix [R, K]."""

    def start(self, shape: Shape, seed: int, stream: int) -> State:
        """The arrays of its state before step 1: Rows of zeros.

        seed, stream  of the random numbers of this matrix, if it takes any
        """
        return {name: _zero(value) for name, value in self.state(shape).items()}

    def correction(self, step: int) -> Fraction:
        """What the learning rate of step 1, 2, … is multiplied by."""
        return Fraction(1)

    def step_inputs(
        self,
        learning_rate: Fraction,
        weight_decay: Fraction,
        step: int,
        weight_sum: int,
        clip: Fraction | None = None,
    ) -> dict[str, int]:
        """The numbers of step 1, 2, …, by name: INPUTS and CLIP_INPUTS.

        weight_sum  the sum of the batch's token weights, in Q14
        clip        the largest norm of the gradient, or None
        """
        rate = learning_rate * self.correction(step)
        return scalar_inputs(rate, learning_rate * weight_decay, weight_sum, clip)


def row_state(shape: Shape, bits: int) -> Row:
    """The type of a Row of the size of a matrix."""
    return Row(Spec(shape, "int32"), Spec((shape[0], 1), "int32"), bits)


def _zero(value: Value) -> Row:
    assert isinstance(value, Row)
    m, e = (np.zeros(spec.shape, np.int32) for spec in (value.m, value.e))
    return Row(m, e + np.int32(LEAST_EXPONENT), value.bits)
