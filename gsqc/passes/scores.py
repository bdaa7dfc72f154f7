# SPDX-License-Identifier: Apache-2.0
"""When the scores of attention are too large to be held for all heads at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

SCORES_BYTES = 4 << 20
"""Scores of all heads up to this are not split. A part's are not larger where it has several heads.
Measured: docs/performance.md.
"""


def is_large(scores: Sequence[int]) -> bool:
    """Whether int32 scores of this shape [G, ...], of G key-value heads, are made part by part."""
    return scores[0] > 1 and 4 * math.prod(scores) > SCORES_BYTES


def heads_of_part(scores: Sequence[int]) -> int:
    """The most heads whose scores fit, of the numbers that divide the heads."""
    heads = scores[0]
    fits = [
        n
        for n in range(1, heads)
        if heads % n == 0 and 4 * math.prod(scores) // heads * n <= SCORES_BYTES
    ]
    return max(fits, default=1)
