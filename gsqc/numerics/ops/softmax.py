# SPDX-License-Identifier: Apache-2.0
"""softmax: causal attention probabilities on rows. exp is a table, and a row takes one division."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    constant_like,
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
"""Bits of P, which backward reads. With 16, the gradient of the worst row is 2 % off."""


@op(Kind.ROW)
def softmax(
    b: Builder, scores: Row, position: Tensor, *, scale: float, window: int | None = None
) -> Row:
    """scores [..., T, C] Row -> P = softmax(scores · scale), Row-24 [..., T, C].

    position  int32 [1, …, T, 1] in [0, i] for row i: the place of a token in its own record

    Column j of row i counts only if i - position ≤ j ≤ i: a token sees the tokens before it in its
    record, and none of another record. With a window it must be one of the last `window` columns up
    to i, too. The rows are those of the axis before the last. exp2 comes
    from a table with a relative error of 2^-17. The sum of at most 2^15 terms is exact, so a row
    does not depend on the number of columns. It takes one reciprocal.
    """
    return _visible_softmax(b, scores, position, scale, window, in_record=True)


@op(Kind.ROW)
def softmax_at(
    b: Builder, scores: Row, position: Tensor, *, scale: float, window: int | None = None
) -> Row:
    """As softmax, for rows at `position`: column j counts only if j ≤ position, and not before the
    window.

    position  int32 [1, …, 1] for all rows, or [1, …, T, 1] for each
    """
    return _visible_softmax(b, scores, position, scale, window, in_record=False)


def hidden_columns(
    b: Builder, shape: tuple[int, ...], position: Tensor, window: int | None, *, in_record: bool
) -> list[Tensor]:
    """Which columns of scores of a shape [..., rows, columns] a row does not see, as bools.

    position   int32 [1, …, rows, 1], or [1, …, 1] for all
    window     of the columns that it would see, a row sees the last ones alone; None: all
    in_record  row i is the token at `position` of its record: it sees columns i - position to i.
               Otherwise it sees those up to `position`
    """
    rank, (rows, columns) = len(shape), shape[-2:]
    column = b.iota((*(1,) * (rank - 1), columns), rank - 1)
    last = b.iota((*(1,) * (rank - 2), rows, 1), rank - 2) if in_record else position
    hidden = [column.greater(last)]
    if in_record:
        hidden.append((last - position).greater(column))
    if window is not None:
        hidden.append((last - (window - 1)).greater(column))
    return hidden


def _visible_softmax(
    b: Builder,
    scores: Row,
    position: Tensor,
    scale: float,
    window: int | None,
    *,
    in_record: bool,
) -> Row:
    """softmax over the columns that a row sees."""
    hidden = hidden_columns(b, scores.shape, position, window, in_record=in_record)
    return softmax_without(b, scores, hidden, scale)


def softmax_without(b: Builder, scores: Row, hidden: list[Tensor], scale: float) -> Row:
    """softmax(scores · scale) over the columns that none of `hidden` hides, as `softmax`."""
    t = to_log2_units(*widen(scores), scale)
    return probabilities(hide(t, hidden))


def hide(scores: Tensor, hidden: list[Tensor], value: int = MASKED) -> Tensor:
    """Scores [..., rows, columns], and `value` in the columns that one of `hidden` hides."""
    for columns in hidden:
        scores = where(columns, value, scores)
    return scores


def hide_columns(
    b: Builder, t: Tensor, position: Tensor, window: int | None, *, in_record: bool
) -> Tensor:
    """Scores t [..., rows, columns] in Q16 octaves, MASKED in the columns of `hidden_columns`."""
    return hide(t, hidden_columns(b, t.shape, position, window, in_record=in_record))


def probabilities(t: Tensor, sink: Tensor | None = None) -> Row:
    """t [..., C] in Q16 octaves, |t| ≤ 2^30 -> 2^t / Σ 2^t, Row-24 [..., C].

    sink  int32 [..., 1], one more term of each row's sum, whose share nobody gets
    """
    top = t.reduce_max() if sink is None else t.reduce_max().maximum(sink)
    p = exp2_negative((top - t).minimum(40 << 16))
    total, total_e = row_sum(p)
    if sink is not None:
        share = exp2_negative((top - sink).minimum(40 << 16))
        total, total_e = add_scaled(total, total_e, share, constant_like(total_e, 0))
    total, k = normalise_elements(total.maximum(1))
    drop = 31 - PROBABILITY_BITS
    probability = (
        p.mulr30(reciprocal(total)).round_shift(drop).minimum(2 ** (PROBABILITY_BITS - 1) - 1)
    )
    return store_row(probability, (k - 29 - total_e) + drop, PROBABILITY_BITS)


@op(Kind.ROW)
def softmax_grad(b: Builder, p: Row, dp: Row, *, scale: float) -> Row:
    """p [..., C] Row-24, dp [..., C] Row -> dS = scale · P · (dP - Σ P·dP / Σ P), Row-16 [..., C].

    The sum Σ P of the rounded P is not quite 1. Dividing by it keeps the gradient blind to a
    constant that is added to dP.
    """
    d, d_e = narrow16(dp)
    wide, dot, dot_k = weigh(p, d)
    total, total_k = row_sum(wide)
    total, shift = normalise_elements(total.maximum(1))
    mean, mean_k = normalise(dot, dot_k, 30)
    mean = mean.mulr30(reciprocal(total))
    mean = scale_by_power(mean, (0 - 13) - (mean_k + (15 + 30 - 59) - total_k + shift))
    return scores_gradient(p, wide, (d, d_e), mean, scale)


def weigh(p: Row, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P as 30 bits, and the sum of P · d of each row with its shift. |d| < 2^15."""
    wide = p.mantissa << (30 - p.bits)
    return wide, *row_sum(wide.mulr15(d))


def scores_gradient(p: Row, wide: Tensor, dp: Scaled, mean: Tensor, scale: float) -> Row:
    """scale · P · (dP - mean), Row-16. `wide` is from `weigh`, the mean in dP's unit · 2^-13."""
    d, d_e = dp
    m, e = ((d << 13) - mean).mulr30(wide), d_e + p.e + (p.bits - 13)
    return store_row(*normalise(*scale_by_constant(m, e, scale), 16), 16)


@softmax.define_gradient
def _gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    return [g.call(softmax_grad, call.results[0], dp, scale=call.attributes["scale"]), None]


def places(rank: int, *records: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The positions of the tokens of records of so many tokens, one behind the other."""
    places = np.concatenate([np.arange(count, dtype=np.int32) for count in records])
    return places.reshape(*(1,) * (rank - 2), -1, 1)


@cases(softmax)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape in (("heads", (2, 3, 32, 32)), ("ragged", (3, 13, 13)), ("one token", (1, 1))):
        operands = [random_row(rng, shape, 24), places(len(shape), shape[-2])]
        yield Case(name, operands, {"scale": 0.125})
    calm = Row(
        rng.integers(-(2**15), 2**15, (2, 40, 40)).astype(np.int16),
        np.full((2, 40, 1), -12, np.int32),
        16,
    )
    yield Case("moderate scores", [calm, places(3, 40)], {"scale": 40**-0.5})
    large = Row(calm.m, calm.e + 30, 16)
    yield Case("large exponents", [large, places(3, 40)], {"scale": 0.25})
    records = [calm, places(3, 17, 1, 22)]
    yield Case("three records", records, {"scale": 40**-0.5})
    yield Case("window", records, {"scale": 40**-0.5, "window": 9})


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
    several = [random_row(rng, (2, 3, 4, 40), 24), at]
    yield Case("several", several, {"scale": 0.125})
    yield Case("window", several, {"scale": 0.125, "window": 3})


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
