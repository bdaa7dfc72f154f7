# SPDX-License-Identifier: Apache-2.0
"""The integers that one optimizer step takes. They come from exact integer arithmetic, so they are
the same on every machine.
"""

from __future__ import annotations

import math
from fractions import Fraction

MANTISSA_BITS = 30
WEIGHT_FRACTION_BITS = 14


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


def scalar_inputs(
    learning_rate: Fraction, decay: Fraction, weight_sum: int, clip: Fraction | None = None
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
        "learning_rate": learning_rate,
        "decay": decay,
        "clip": clip or Fraction(0),
    }
    inputs: dict[str, int] = {}
    for name, value in numbers.items():
        inputs[f"{name}_m"], inputs[f"{name}_e"] = split(value)
    return inputs
