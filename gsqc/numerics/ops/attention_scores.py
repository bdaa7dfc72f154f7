# SPDX-License-Identifier: Apache-2.0
"""attention_scores: attention's product q · k. A row is rounded over the columns that its token
sees, so it depends on no later token and on no other record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.layout import reshape, view
from gsqc.numerics.ops.linear import product, product_gradient, to_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op
from gsqc.numerics.ops.softmax import hidden_columns, hide, places


@op(Kind.ROW)
def to_visible_row(
    b: Builder,
    c: Tensor,
    row_e: Tensor,
    column_e: Tensor,
    position: Tensor,
    *,
    offset: int,
    bits: int,
    in_record: bool,
    window: int | None = None,
) -> Row:
    """As `to_row`, for scores c [..., T, C]: 0 in the columns that a token does not see.

    `position`, `in_record` and `window` are those of `hidden_columns`.
    """
    c = hide(c, hidden_columns(b, c.shape, position, window, in_record=in_record), 0)
    row: Row = to_row.function(b, c, row_e, column_e, offset=offset, bits=bits)
    return row


@composite
def attention_scores(
    call: Calls,
    q: Row,
    k: Row,
    position: Tensor,
    *,
    x_bits: int,
    w_bits: int,
    bits: int,
    **visible: Any,
) -> Row:
    """q [G, R, D], k [G, C, D] Row, position int32 [1, 1, T, 1] -> Row-bits [G, R / T, T, C].

    The heads that share keys are rows of one product: T rows of each. `visible` are `in_record` and
    `window` of `to_visible_row`.
    """
    widths = {"x_bits": x_bits, "w_bits": w_bits}
    return score_rows(call, q, k, (position,), to_visible_row, widths, {"bits": bits, **visible})


def score_rows(
    call: Calls,
    q: Row,
    k: Row,
    places: tuple[Tensor, ...],
    to_rows: Any,
    widths: dict[str, int],
    settings: dict[str, Any],
) -> Row:
    """q [G, R, D] · k [G, C, D] as `to_rows` rounds it, Row [G, R / T, T, C].

    places  what says which columns a token sees. The first is int32 [1, 1, T, 1]
    """
    groups, rows, _ = call.type_of(q).shape
    columns, tokens = call.type_of(k).shape[1], call.type_of(places[0]).shape[2]
    split = (groups, rows // tokens, tokens)
    c, row_e, column_e, offset = product(call, q, k, **widths)
    scores: Row = call(
        to_rows,
        call(reshape, c, shape=(*split, columns)),
        call(reshape, row_e, shape=(*split, 1)),
        call(reshape, column_e, shape=(groups, 1, 1, columns)),
        *places,
        offset=offset,
        **settings,
    )
    return scores


@attention_scores.define_gradient
def scores_gradient(g: Any, call: Any, ds: Any) -> list[Any]:
    """Those of the product: the gradient of a score that is not seen is zero already."""
    q, k, _ = call.args
    *_, columns = g.shape(ds)
    rows = (*g.shape(q)[:2], columns)
    ds = g.call(view, ds, shape=rows, exponent_shape=(*rows[:2], 1))
    bits = (call.attributes["x_bits"], call.attributes["w_bits"], g.gradient_bits(call))
    return [*product_gradient(g, ds, q, k, bits, call.needs), None]


@cases(to_visible_row)
def _visible_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, in_record, positions in (
        ("records", (2, 3, 8, 8), True, places(4, 3, 5)),
        ("cache", (2, 2, 3, 40), False, np.array([[[[7], [8], [39]]]], np.int32)),
    ):
        c = rng.integers(-(2**30) + 1, 2**30, shape) >> rng.integers(0, 31, shape)
        row_e = rng.integers(-50, 10, (*shape[:-1], 1)).astype(np.int32)
        column_e = rng.integers(-30, 5, (shape[0], 1, 1, shape[-1])).astype(np.int32)
        attributes = {"offset": -9, "bits": 24, "in_record": in_record}
        values = [c.astype(np.int32), row_e, column_e, positions]
        yield Case(name, values, attributes)
        yield Case(f"{name}, a window", values, {**attributes, "window": 2})


@cases(attention_scores)
def _scores_cases(rng: np.random.Generator) -> Iterator[Case]:
    q, k = random_row(rng, (2, 15, 16), 16), random_row(rng, (2, 5, 16), 16)
    widths = {"x_bits": 8, "w_bits": 8, "bits": 24, "in_record": True}
    yield Case("three heads", [q, k, places(4, 2, 3)], widths)
