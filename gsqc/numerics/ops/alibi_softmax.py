# SPDX-License-Identifier: Apache-2.0
"""alibi_softmax: softmax of scores that fall with the distance of a token, by a slope for each
head.

Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases", arXiv 2108.12409.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import LOG2_E_HALF, to_log2_units, widen
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.numerics.ops.softmax import hide_columns, places, probabilities, softmax_grad

FARTHEST = 2**15
"""Tokens behind this distance have the bias of this distance."""


@op(Kind.ROW)
def alibi_softmax(
    b: Builder,
    scores: Row,
    position: Tensor,
    slopes: Tensor,
    *,
    scale: float,
    in_record: bool,
    window: int | None = None,
) -> Row:
    """scores [G, H, T, C] Row -> softmax(scores · scale - slope · distance), Row-24 [G, H, T, C].

    position  as of `softmax` where `in_record`, else as of `softmax_at`
    slopes    int32 [G, H, 1, 1] in Q29, as all tables are, from 0 to below 1

    The distance is that from row to column in tokens. A bias is added to a score by itself, in
    octaves of Q16, and is off by 2^-15 octaves at most. So hidden columns take part in no rounding.
    """
    rank, (rows, columns) = len(scores.shape), scores.shape[-2:]
    column = b.iota((*(1,) * (rank - 1), columns), rank - 1)
    row = b.iota((*(1,) * (rank - 2), rows, 1), rank - 2) if in_record else position
    distance = (row - column).clamp(0, FARTHEST)
    # slope · log2(e) in Q29, times the distance: in Q14, up to 2^30.6. No probability is left
    # behind 2^13 octaves.
    doubled = slopes << (30 - TABLE_FRACTION_BITS)
    bias = doubled.mulc(LOG2_E_HALF).mulr15(distance).minimum(2**27) << 2
    t = to_log2_units(*widen(scores), scale) - bias
    return probabilities(hide_columns(b, t, position, window, in_record=in_record))


@alibi_softmax.define_gradient
def _gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    """That of softmax: a bias that is known changes nothing."""
    made = g.call(softmax_grad, call.results[0], dp, scale=call.attributes["scale"])
    return [made, None, None]


def of_heads(rng: np.random.Generator, groups: int, heads: int) -> np.ndarray[Any, Any]:
    """Slopes in Q29, and both ends of their range."""
    slopes = rng.integers(0, 2**29, (groups, heads, 1, 1)).astype(np.int32)
    slopes.flat[0], slopes.flat[-1] = 0, 2**29 - 1
    return slopes


@cases(alibi_softmax)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape in (("heads", (2, 3, 32, 32)), ("ragged", (1, 4, 13, 13))):
        operands = [random_row(rng, shape, 24), places(4, shape[-2]), of_heads(rng, *shape[:2])]
        yield Case(name, operands, {"scale": 0.125, "in_record": True})
    calm = Row(
        rng.integers(-(2**15), 2**15, (2, 2, 40, 40)).astype(np.int16),
        np.full((2, 2, 40, 1), -12, np.int32),
        16,
    )
    records = [calm, places(4, 17, 1, 22), of_heads(rng, 2, 2) >> 3]
    yield Case("three records", records, {"scale": 0.2, "in_record": True})
    yield Case("window", records, {"scale": 0.2, "in_record": True, "window": 9})
    at = np.array([[[[7], [8], [39]]]], np.int32)
    cached = [random_row(rng, (2, 3, 3, 40), 24), at, of_heads(rng, 2, 3)]
    yield Case("cache", cached, {"scale": 0.125, "in_record": False})
