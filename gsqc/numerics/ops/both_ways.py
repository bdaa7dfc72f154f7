# SPDX-License-Identifier: Apache-2.0
"""both_ways: attention in which a token sees all tokens of its own record, those after it too.

Encoders attend so: Devlin et al. 2019, "BERT". A token of padding is a record of its own. So the
padding takes part in no rounding of the others, and a record has the same bits at any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.attention_scores import score_rows, scores_gradient
from gsqc.numerics.ops.layout import reshape
from gsqc.numerics.ops.linear import to_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op
from gsqc.numerics.ops.softmax import hide, places, softmax_grad, softmax_without


def other_columns(
    b: Builder, shape: tuple[int, ...], position: Tensor, columns: Tensor, reach: int | None
) -> list[Tensor]:
    """Which columns of scores of a shape [..., T, T] a row does not see, as bools.

    position  int32 [1, …, T, 1]: the place of each token in its record
    columns   the same places, int32 [1, …, 1, T]
    reach     a row sees columns that are at most so far away; None: all of its record
    """
    rank, (rows, count) = len(shape), shape[-2:]
    row = b.iota((*(1,) * (rank - 2), rows, 1), rank - 2)
    column = b.iota((*(1,) * (rank - 1), count), rank - 1)
    # Two tokens are of one record if their records begin at the same place.
    own, other = row - position, column - columns
    hidden = [own.greater(other), other.greater(own)]
    if reach is not None:
        hidden += [(row - reach).greater(column), column.greater(row + reach)]
    return hidden


@op(Kind.ROW)
def softmax_both_ways(
    b: Builder,
    scores: Row,
    position: Tensor,
    columns: Tensor,
    *,
    scale: float,
    reach: int | None = None,
) -> Row:
    """scores [..., T, T] Row -> P as `softmax` gives it, Row-24 [..., T, T].

    The columns of `other_columns` are hidden.
    """
    hidden = other_columns(b, scores.shape, position, columns, reach)
    return softmax_without(b, scores, hidden, scale)


@softmax_both_ways.define_gradient
def _softmax_gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    ds = g.call(softmax_grad, call.results[0], dp, scale=call.attributes["scale"])
    return [ds, None, None]


@op(Kind.ROW)
def to_row_both_ways(
    b: Builder,
    c: Tensor,
    row_e: Tensor,
    column_e: Tensor,
    position: Tensor,
    columns: Tensor,
    *,
    offset: int,
    bits: int,
    reach: int | None = None,
) -> Row:
    """As `to_row`, for scores c [..., T, T]: 0 in the columns of `other_columns`."""
    c = hide(c, other_columns(b, c.shape, position, columns, reach), 0)
    row: Row = to_row.function(b, c, row_e, column_e, offset=offset, bits=bits)
    return row


@composite
def scores_both_ways(
    call: Calls,
    q: Row,
    k: Row,
    position: Tensor,
    *,
    x_bits: int,
    w_bits: int,
    bits: int,
    reach: int | None = None,
) -> Row:
    """q [G, R, D], k [G, T, D] Row, position int32 [1, 1, T, 1] -> Row-bits [G, R / T, T, T].

    As `attention_scores`, with the columns of `other_columns` hidden.
    """
    tokens = call.type_of(position).shape[2]
    columns = call(reshape, position, shape=(1, 1, 1, tokens))
    places = (position, columns)
    far = {} if reach is None else {"reach": reach}
    widths = {"x_bits": x_bits, "w_bits": w_bits}
    return score_rows(call, q, k, places, to_row_both_ways, widths, {"bits": bits, **far})


scores_both_ways.define_gradient(scores_gradient)


@cases(softmax_both_ways)
def _softmax_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, records in (
        ("heads", (2, 3, 32, 32), (32,)),
        ("records", (2, 2, 13, 13), (5, 1, 4, 1, 1, 1)),
        ("one token", (1, 1), (1,)),
    ):
        position = places(len(shape), *records)
        values = [random_row(rng, shape, 24), position, position.swapaxes(-1, -2).copy()]
        yield Case(name, values, {"scale": 0.125})
        yield Case(f"{name}, a reach", values, {"scale": 0.125, "reach": 2})


@cases(to_row_both_ways)
def _row_cases(rng: np.random.Generator) -> Iterator[Case]:
    shape, position = (2, 3, 8, 8), places(4, 3, 5)
    c = rng.integers(-(2**30) + 1, 2**30, shape) >> rng.integers(0, 31, shape)
    row_e = rng.integers(-50, 10, (*shape[:-1], 1)).astype(np.int32)
    column_e = rng.integers(-30, 5, (shape[0], 1, 1, shape[-1])).astype(np.int32)
    values = [c.astype(np.int32), row_e, column_e, position, position.swapaxes(-1, -2).copy()]
    attributes = {"offset": -9, "bits": 24}
    yield Case("records", values, attributes)
    yield Case("a reach", values, {**attributes, "reach": 2})


@cases(scores_both_ways)
def _scores_cases(rng: np.random.Generator) -> Iterator[Case]:
    q, k = random_row(rng, (2, 15, 16), 16), random_row(rng, (2, 5, 16), 16)
    widths = {"x_bits": 8, "w_bits": 8, "bits": 24}
    yield Case("three heads", [q, k, places(4, 2, 3)], widths)
