# SPDX-License-Identifier: Apache-2.0
"""Random choices of the host: the order of the data, and sampled tokens.

They come from the generator of `gsqc.numerics.ops.noise`, so a seed gives the same on every
machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.ops.noise import MASK31, join31, noise, stream_key


def random_bits(seed: int, stream: int, indices: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """31 random bits for each index in [0, 2^31), as int64 of the shape of `indices`.

    Seed and stream are non-negative. Each pair of them names an independent sequence.
    """
    b = NumpyBuilder()
    key = b.const(stream_key(seed, stream & MASK31), 1)
    index = join31(noise(b, b.const(0x2B5C, 1), b.tensor(np.asarray(indices, np.int32))))
    bits: npt.NDArray[np.int64] = join31(noise(b, key, index)).data.astype(np.int64)
    return bits


def uniform_below(limit: int, seed: int, stream: int) -> int:
    """A uniform integer in [0, limit), for a limit of any size.

    Its digits have 31 random bits. A number that reaches the limit is rejected and drawn again.
    """
    digits = -(-limit.bit_length() // 31)
    excess = digits * 31 - limit.bit_length()
    for attempt in range(1000):
        value = 0
        for bits in random_bits(seed, stream, np.arange(attempt * digits, (attempt + 1) * digits)):
            value = value << 31 | int(bits)
        value >>= excess
        if value < limit:
            return value
    raise AssertionError("a draw is rejected with probability at most 1/2")


def permutation(count: int, seed: int, stream: int) -> list[int]:
    """A random order of range(count): sorted by 62 random bits each, and by index where equal."""
    index = np.arange(count)
    first, second = random_bits(seed, 2 * stream, index), random_bits(seed, 2 * stream + 1, index)
    return sorted(range(count), key=lambda k: (int(first[k]), int(second[k]), k))
