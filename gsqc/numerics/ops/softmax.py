# SPDX-License-Identifier: Apache-2.0
"""softmax: attention probabilities, causal, on rows; exp by table, one division per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    exp2_negative,
    narrow16,
    normalise,
    normalise_elements,
    reciprocal,
    row_sum,
    scale_by_constant,
    scale_by_power,
    store_row,
    to_log2_units,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

MASKED = -(2**29)
PROBABILITY_BITS = 24
"""P is kept at 24 bits for backward: at 16, the worst row's gradient is 2 % off (facts: int32 ops).
"""


@op(Kind.ROW)
def softmax(b: Builder, scores: Row, *, scale: float) -> Row:
    """scores [..., T, C] Row -> P = softmax(scores · scale) Row-24, where column j of row i counts
    only if j ≤ i.

    The row index is that of the axis before the last. exp2 from a table at relative error 2^-17;
    the sum of at most 2^12 terms is exact after a shift by ⌈log2 C⌉; one reciprocal per row.
    Largest error 0.6 ulp of 16 bits.
    """
    rank = len(scores.shape)
    return _causal(b, scores, b.iota((*(1,) * (rank - 2), scores.shape[-2], 1), rank - 2), scale)


@op(Kind.ROW)
def softmax_at(b: Builder, scores: Row, position: Tensor, *, scale: float) -> Row:
    """softmax of rows at `position` int32 [1, …, 1], or [1, …, T, 1] for each: column j counts only
    if j ≤ position.
    """
    return _causal(b, scores, position, scale)


def _causal(b: Builder, scores: Row, row: Tensor, scale: float) -> Row:
    rank, columns = len(scores.shape), scores.shape[-1]
    column = b.iota((*(1,) * (rank - 1), columns), rank - 1)
    t = to_log2_units(*widen(scores), scale)
    t = where(column.greater(row), MASKED, t)
    p = exp2_negative((t.reduce_max() - t).minimum(40 << 16))
    q = max(1, (columns - 1).bit_length())
    total, k = normalise_elements(p.round_shift(q).reduce_sum().maximum(1))
    drop = 31 - PROBABILITY_BITS
    probability = (
        p.mulr30(reciprocal(total)).round_shift(drop).minimum(2 ** (PROBABILITY_BITS - 1) - 1)
    )
    return store_row(probability, (k - 29 - q) + drop, PROBABILITY_BITS)


@op(Kind.ROW)
def softmax_grad(b: Builder, p: Row, dp: Row, *, scale: float) -> Row:
    """P [..., C] Row-24, dP Row -> dS = scale · P · (dP - Σ P·dP / Σ P), Row-16.

    Dividing by the rounded P's own sum keeps the gradient blind to a constant added to dP.
    """
    d, d_e = narrow16(dp)
    wide = p.mantissa << (30 - p.bits)
    dot, dot_k = row_sum(wide.mulr15(d))
    total, total_k = row_sum(wide)
    total, shift = normalise_elements(total.maximum(1))
    mean, mean_k = normalise(dot, dot_k, 30)
    mean = mean.mulr30(reciprocal(total))
    mean = scale_by_power(mean, (0 - 13) - (mean_k + (15 + 30 - 59) - total_k + shift))
    m, e = ((d << 13) - mean).mulr30(wide), d_e + p.e + (p.bits - 13)
    return store_row(*normalise(*scale_by_constant(m, e, scale), 16), 16)


@softmax.define_gradient
def _gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    return [g.call(softmax_grad, call.results[0], dp, scale=call.attributes["scale"])]


@cases(softmax)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape in (("heads", (2, 3, 32, 32)), ("ragged", (3, 13, 13)), ("one token", (1, 1))):
        yield Case(name, [random_row(rng, shape, 24)], {"scale": 0.125})
    calm = Row(
        rng.integers(-(2**15), 2**15, (2, 40, 40)).astype(np.int16),
        np.full((2, 40, 1), -12, np.int32),
        16,
    )
    yield Case("moderate scores", [calm], {"scale": 40**-0.5})
    yield Case("large exponents", [Row(calm.m, calm.e + 30, 16)], {"scale": 0.25})


@cases(softmax_at)
def _at_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, position in (
        ("first", (2, 3, 1, 40), 0),
        ("middle", (3, 1, 1, 33), 17),
        ("last", (1, 1, 1, 32), 31),
    ):
        at = np.full((1, 1, 1, 1), position, np.int32)
        yield Case(name, [random_row(rng, shape, 24), at], {"scale": 0.125})
    at = np.array([[[[7], [8], [9], [9]]]], np.int32)
    yield Case("several", [random_row(rng, (2, 3, 4, 40), 24), at], {"scale": 0.125})


@cases(softmax_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits, scale in (
        ("heads", (2, 3, 8, 32), 16, 0.125),
        ("ragged", (3, 13), 24, 0.3),
    ):
        p = rng.integers(0, 2**23, shape) >> rng.integers(0, 23, shape)
        p[..., 0, 1:] = 0
        p[..., 0] = 2**23 - 1
        row = Row(p.astype(np.int32), np.full((*shape[:-1], 1), -23, np.int32), 24)
        yield Case(name, [row, random_row(rng, shape, bits)], {"scale": scale})
