# SPDX-License-Identifier: Apache-2.0
"""The integers that one optimizer step takes, by exact integer arithmetic: the same on every
machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

MANTISSA_BITS = 30
WEIGHT_FRACTION_BITS = 14
_BETA_BITS = 31
_POWER_BITS = 128


def split(value: Fraction) -> tuple[int, int]:
    """A non-negative number as (m, e): m · 2^e with m in [2^29, 2^30), rounded half up; 0 is (0,
    0).
    """
    assert value >= 0
    if value == 0:
        return 0, 0
    e = value.numerator.bit_length() - value.denominator.bit_length() - MANTISSA_BITS
    for exponent in (e, e + 1, e + 2):
        m = math.floor(value / Fraction(2) ** exponent + Fraction(1, 2))
        if m < 1 << MANTISSA_BITS:
            return m, exponent
    raise AssertionError("a number has one leading bit")


def _power(beta: int, step: int) -> int:
    """(beta / 2^31)^step in Q128, by squaring, each product rounded down: off by at most 2^-120."""
    result, base = 1 << _POWER_BITS, beta << (_POWER_BITS - _BETA_BITS)
    while step:
        if step & 1:
            result = result * base >> _POWER_BITS
        base = base * base >> _POWER_BITS
        step >>= 1
    return result


def adamw_correction(attributes: Mapping[str, int], step: int) -> Fraction:
    """√(1 - beta2^step) / (1 - beta1^step), for step ≥ 1."""
    assert step >= 1
    one = 1 << _POWER_BITS
    first, second = (one - _power(attributes[name], step) for name in ("beta1", "beta2"))
    return Fraction(math.isqrt(second << _POWER_BITS), first)


def scalar_inputs(
    learning_rate: Fraction,
    weight_decay: Fraction,
    correction: Fraction,
    weight_sum: int,
    clip: Fraction | None = None,
) -> dict[str, int]:
    """Mantissas and exponents of 1 / tokens, corrected learning rate, learning rate · weight decay,
    and largest norm.

    `weight_sum` is the sum of the batch's token weights in Q14; 0 gives a zero gradient. No
    clipping is the norm 0.
    """
    inverse = Fraction(1 << WEIGHT_FRACTION_BITS, weight_sum) if weight_sum else Fraction(0)
    numbers = {
        "inverse_tokens": inverse,
        "learning_rate": learning_rate * correction,
        "decay": learning_rate * weight_decay,
        "clip": clip or Fraction(0),
    }
    inputs: dict[str, int] = {}
    for name, value in numbers.items():
        inputs[f"{name}_m"], inputs[f"{name}_e"] = split(value)
    return inputs
