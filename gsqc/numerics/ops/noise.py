# SPDX-License-Identifier: Apache-2.0
"""noise: random numbers from a counter, and the adapter's initial values that are made of them.

They are the same on every machine. The generator is a 4-round Feistel network on 16-bit halves, in
which every product stays below 2^31. XOR and shifts alone would be linear: the noise of two
elements would differ by the same mask in every step.
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
MASK31 = 2**31 - 1


def noise(b: Builder, counter: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """counter and index int32 of equal rank, in [0, 2^31) -> 32 random bits as two halves.

    Each half, high and low, is an int32 in [0, 2^16). The result is a permutation of counter XOR
    index. So counters of one use must differ in more than low bits: `uniform_q24` scatters them.
    """
    x = counter ^ index
    high, low = x.logical_shift(16), x & 0xFFFF
    for k, multiplier in enumerate(_ROUND_MULTIPLIERS, 1):
        mixed = ((low ^ (_ROUND_STEP * k & 0xFFFF)) * multiplier).logical_shift(11) & 0xFFFF
        high, low = low, high ^ mixed
    return high, low


def join31(halves: tuple[Tensor, Tensor]) -> Tensor:
    """31 of the 32 bits, as an int32 in [0, 2^31)."""
    return ((halves[0] & 0x7FFF) << 16) | halves[1]


def stream_key(seed: int, stream: int) -> int:
    """The counter of a stream of random numbers, in [0, 2^31).

    seed and stream are non-negative, below 2^62 and 2^31. Streams of one seed are independent.
    """
    b = NumpyBuilder()
    key = b.const(0, 1)
    for part in (seed & MASK31, seed >> 31 & MASK31, stream):
        key = join31(noise(b, key, b.const(part, 1)))
    return int(key.data[0])


def uniform_q24(
    seed: int, stream: int, shape: tuple[int, ...], fan_in: int
) -> npt.NDArray[np.int32]:
    """Uniform numbers in ±1/√fan_in as int32 Q24 of `shape`, which has fewer than 2^31 elements.

    This is PEFT's initial A: kaiming_uniform with a = √5 (He et al. 2015). seed and stream are
    non-negative, and streams of one seed are independent. The arithmetic is integer only: the bound
    is an integer square root, rounded down. An index is scattered before and after the key joins.
    """
    b, count = NumpyBuilder(), math.prod(shape)
    assert count < 2**31
    scattered = join31(noise(b, b.const(0, 1), b.iota((count,), 0)))
    bits = join31(noise(b, b.const(stream_key(seed, stream), 1), scattered)) - 2**30
    bound = math.isqrt((1 << (2 * MASTER_FRACTION_BITS)) // fan_in)
    values: npt.NDArray[np.int32] = bits.mulr30(bound).data.reshape(shape)
    return values
