# SPDX-License-Identifier: Apache-2.0
"""record_mean: the mean of the tokens of each record, for pooling a text.

It is attention that gives all tokens of a record the same weight. A token of padding is a record
of its own, so padding changes no bit of a text's mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.attention_values import weigh_values
from gsqc.numerics.ops.both_ways import other_columns
from gsqc.numerics.ops.layout import reshape, view
from gsqc.numerics.ops.primitives import constant_like, normalise_elements, reciprocal, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op
from gsqc.numerics.ops.softmax import hide, places

SHARE_BITS = 24


@op(Kind.ROW)
def record_shares(b: Builder, position: Tensor, columns: Tensor) -> Row:
    """The places of tokens in their records, int32 [1, T, 1] and [1, 1, T] -> Row-24 [1, T, T].

    Row i has 1 / n in the columns of its record of n tokens, and 0 in the others. The relative
    error is 2^-22. 1 / n of a power of two is exact.
    """
    tokens = position.shape[1]
    hidden = other_columns(b, (1, tokens, tokens), position, columns, None)
    own = hide(constant_like(position, 1), hidden, 0)
    count, shift = normalise_elements(own.reduce_sum())
    drop = 30 - SHARE_BITS + 2
    share = where(own.greater(0), reciprocal(count).round_shift(drop), 0)
    return store_row(share, shift - (59 - drop), SHARE_BITS)


@composite
def record_mean(call: Calls, x: Row, position: Tensor, *, bits: int) -> Row:
    """x [T, n] Row, position int32 [T] -> each token's mean over its record, Row-bits [T, n].

    x is rounded to 8 bits as attention's values are, with a scale for each token.
    """
    tokens, width = call.type_of(x).shape
    column = call(reshape, position, shape=(1, tokens, 1))
    shares = call(record_shares, column, call(reshape, position, shape=(1, 1, tokens)))
    rows = call(view, x, shape=(1, tokens, width), exponent_shape=(1, tokens, 1))
    means = call(weigh_values, shares, rows, bits=bits)
    out: Row = call(view, means, shape=(tokens, width), exponent_shape=(tokens, 1))
    return out


@record_mean.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """Two tokens of a record weigh the same for each other, so the gradient is a mean too."""
    return [g.call(record_mean, dy, call.args[1], bits=call.attributes["bits"]), None]


@cases(record_shares)
def _share_cases(rng: np.random.Generator) -> Iterator[Case]:
    for records in ((40,), (5, 1, 16, 1, 1, 1), (1,)):
        position = places(3, *records)
        yield Case(f"{records}", [position, position.swapaxes(-1, -2).copy()])


@cases(record_mean)
def _mean_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, records, width, bits in (("texts", (13, 20, 1, 1), 40, 16), ("one", (1,), 32, 24)):
        x = random_row(rng, (sum(records), width), bits)
        yield Case(name, [x, places(2, *records).reshape(-1)], {"bits": bits})
