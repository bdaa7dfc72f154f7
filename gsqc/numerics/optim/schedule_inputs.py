# SPDX-License-Identifier: Apache-2.0
"""The integers that one optimizer step takes. They come from exact integer arithmetic, so they are
the same on every machine.
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
    """A non-negative number as (m, e): m · 2^e, rounded half up, with m in [2^29, 2^30).

    0 is (0, 0).
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
    """(beta / 2^31)^step in Q128, by squaring. Products are rounded down: off by at most 2^-120."""
    result, base = 1 << _POWER_BITS, beta << (_POWER_BITS - _BETA_BITS)
    while step:
        if step & 1:
            result = result * base >> _POWER_BITS
        base = base * base >> _POWER_BITS
        step >>= 1
    return result


def adamw_correction(attributes: Mapping[str, int], step: int) -> Fraction:
    """Adam's bias correction √(1 - beta2^step) / (1 - beta1^step), for step ≥ 1.

    attributes  beta1 and beta2 over 2^31

    Kingma & Ba 2015, section 2, in the form that multiplies the learning rate.
    """
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
    """Mantissa (…_m, 30 bits) and exponent (…_e) of each number that a step takes.

    inverse_tokens  1 / tokens, where tokens is `weight_sum` / 2^14: the sum of the batch's token
                    weights, which are in Q14. A sum of 0 gives 0, and so a zero gradient.
    learning_rate   times the bias correction
    decay           learning rate · weight decay
    clip            the largest norm of the gradient. 0 if nothing is clipped.
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
