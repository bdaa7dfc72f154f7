# SPDX-License-Identifier: Apache-2.0
"""noise: random numbers from a counter, the same on every machine, and the adapter's initial values
made of them.

A 4-round Feistel network on 16-bit halves; every product stays below 2^31. A generator of XOR and
shifts alone would be linear: two elements' noise would differ by the same mask in every step.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.ops.embedding import MASTER_FRACTION_BITS

_ROUND_MULTIPLIERS = (0x6487, 0x7A35, 0x58B7, 0x6C8F)
_ROUND_STEP = 0x9E37
_MASK31 = 2**31 - 1


def noise(b: Builder, counter: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """counter and index int32 in [0, 2^31), of equal rank -> 32 random bits, as high and low half
    in [0, 2^16).

    A permutation of counter XOR index: counters of one use must differ in more than low bits
    (`uniform_q24` scatters them).
    """
    x = counter ^ index
    high, low = x.logical_shift(16), x & 0xFFFF
    for k, multiplier in enumerate(_ROUND_MULTIPLIERS, 1):
        mixed = ((low ^ (_ROUND_STEP * k & 0xFFFF)) * multiplier).logical_shift(11) & 0xFFFF
        high, low = low, high ^ mixed
    return high, low


def _join31(halves: tuple[Tensor, Tensor]) -> Tensor:
    """31 of the 32 bits, as an int32 in [0, 2^31)."""
    return ((halves[0] & 0x7FFF) << 16) | halves[1]


def uniform_q24(
    seed: int, stream: int, shape: tuple[int, ...], fan_in: int
) -> npt.NDArray[np.int32]:
    """Uniform numbers in ±1/√fan_in as int32 Q24: PEFT's initial A, kaiming_uniform with a = √5 (He
    et al. 2015).

    seed and stream are non-negative; streams of one seed are independent. Integer arithmetic only:
    the bound is an integer square root, rounded down. Each index is scattered before and after the
    key joins it.
    """
    b = NumpyBuilder()
    key = b.const(0, 1)
    for part in (seed & _MASK31, seed >> 31 & _MASK31, stream):
        key = _join31(noise(b, key, b.const(part, 1)))
    count = math.prod(shape)
    assert count < 2**31
    scattered = _join31(noise(b, b.const(0, 1), b.iota((count,), 0)))
    bits = _join31(noise(b, key, scattered)) - 2**30
    bound = math.isqrt((1 << (2 * MASTER_FRACTION_BITS)) // fan_in)
    values: npt.NDArray[np.int32] = bits.mulr30(bound).data.reshape(shape)
    return values
