# SPDX-License-Identifier: Apache-2.0
"""kept_blocks: by chance, the blocks whose backward pass runs in a step.

Woo et al. 2024, "DropBP", arXiv 2402.17812, with one rate for all blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.noise import MASK31, join31, noise, stream_key
from gsqc.numerics.ops.registry import Case, Kind, cases, op

STREAM = 2**30
"""Of the random numbers. Those of initial values have the same seed, and count from 0."""


@op(Kind.ROW)
def kept_blocks(b: Builder, step: Tensor, *, seed: int, threshold: int, blocks: int) -> Tensor:
    """step int32 [1, 1] -> int32 [1, blocks]: 1 for a block that is kept, else 0.

    A block is kept if 31 random bits are at least `threshold`, which is in [0, 2^31). They are of
    the seed, the step and the block alone. Steps that differ by 2^31 have the same bits.
    """
    key = join31(noise(b, b.const(stream_key(seed, STREAM), 2), step & MASK31))
    # Small indices differ in low bits only, and so would the noise of one key.
    index = join31(noise(b, b.const(0, 2), b.iota((1, blocks), 1)))
    return where(join31(noise(b, key, index)).greater(threshold - 1), 1, 0)


@cases(kept_blocks)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, step, seed, threshold, blocks in (
        ("half", 1, 0, 2**30, 30),
        ("all", 7, 1, 0, 12),
        ("few", 1000, 2**62 - 1, 2**31 - 2**26, 257),
        ("one", 3, 5, 2**30, 1),
        ("largest", 2**31 - 1, 3, 2**31 - 1, 48),
        ("smallest", -(2**31), 3, 2**29, 48),
    ):
        attributes = {"seed": seed, "threshold": threshold, "blocks": blocks}
        yield Case(name, [np.array([[step]], np.int32)], attributes)
