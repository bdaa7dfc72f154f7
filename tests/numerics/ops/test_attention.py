# SPDX-License-Identifier: Apache-2.0
"""The products of attention: near the float ones, and blind to what comes later."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import relative_error, to_float, to_row

TOKENS, WIDTH = 75, 64
SCORES = {"x_bits": 8, "w_bits": 8, "bits": 24, "in_record": True}


def place(*records: int) -> np.ndarray:
    places = np.concatenate([np.arange(n, dtype=np.int32) for n in records])
    return places.reshape(1, 1, -1, 1)


def attention(q: Row, k: Row, v: Row, position: np.ndarray) -> Row:
    """q [2, T, D], k and v [1, T, D]: two heads that share keys. The result is [2, T, D]."""
    groups, tokens, width = k.shape
    heads = q.shape[0] // groups
    rows = Row(q.m.reshape(groups, -1, width), q.e.reshape(groups, -1, 1), q.bits)
    scores = evaluate(OPS["attention_scores"], [rows, k, position], SCORES)
    p = evaluate(OPS["softmax"], [scores, position], {"scale": width**-0.5})
    flat = Row(p.m.reshape(groups, -1, tokens), p.e.reshape(groups, -1, 1), p.bits)
    o = evaluate(OPS["weigh_values"], [flat, v], {"bits": 16})
    return Row(
        o.m.reshape(groups * heads, tokens, width), o.e.reshape(groups * heads, tokens, 1), 16
    )


def operands(seed: int, tokens: int) -> list[Row]:
    """q, k and v of tokens that grow by octaves, so that a later one could move every exponent."""
    rng = np.random.default_rng(seed)
    growth = 2.0 ** rng.integers(-3, 4, (1, tokens, 1))
    shapes = ((2, tokens, WIDTH), (1, tokens, WIDTH), (1, tokens, WIDTH))
    return [to_row(rng.standard_normal(s) * growth, 16) for s in shapes]


def first(x: Row, count: int) -> Row:
    return Row(x.m[:, :count], x.e[:, :count], x.bits)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 70])
def test_what_follows_a_text_changes_no_bit_of_it(count: int) -> None:
    """Alone, with more tokens, and in front of another record."""
    whole = operands(count, TOKENS)
    alone = attention(*(first(x, count) for x in whole), place(count))
    for records in ((TOKENS,), (count, TOKENS - count)):
        longer = first(attention(*whole, place(*records)), count)
        np.testing.assert_array_equal(longer.m, alone.m)
        np.testing.assert_array_equal(longer.e, alone.e)


def test_values_near_float() -> None:
    """A step is 1/64 to 1/128 of the largest, 3 times the rms: an error of 0.7 to 1.4 %."""
    rng = np.random.default_rng(1)
    p = np.tril(rng.random((2, TOKENS, TOKENS)) ** 6)
    p = to_row(p / p.sum(-1, keepdims=True), 24)
    v = to_row(
        rng.standard_normal((2, TOKENS, WIDTH)) * 2.0 ** rng.integers(-2, 3, (2, TOKENS, 1)), 16
    )
    got = evaluate(OPS["weigh_values"], [p, v], {"bits": 16})
    assert relative_error(to_float(got), to_float(p) @ to_float(v)) < 0.015


def test_scores_near_float() -> None:
    """Where a token sees a column, its score is that of the product, and elsewhere it is zero."""
    rng = np.random.default_rng(2)
    q, k = (to_row(rng.standard_normal((2, TOKENS, WIDTH)), 16) for _ in range(2))
    got = to_float(evaluate(OPS["attention_scores"], [q, k, place(40, 35)], SCORES))[:, 0]
    record = np.repeat([0, 1], [40, 35])
    seen = np.tril(np.ones((TOKENS, TOKENS), bool)) & (record[:, None] == record)
    expected = np.where(seen, to_float(q) @ to_float(k).transpose(0, 2, 1), 0)
    assert not got[:, ~seen].any()
    assert relative_error(got, expected) < 0.015


def test_a_value_has_one_scale_for_each_token() -> None:
    """By hand: a row with 3 in its first place is 3, 32 times, in H's coordinates. 3 = 96 / 32."""
    v = np.zeros((1, 2, 32))
    v[0, 0, 0], v[0, 1, 5] = 3, -100
    got = evaluate(OPS["round_values"], [to_row(v, 16)], {})
    assert (got.bits, got.m.dtype) == (8, np.int8)
    assert got.m[0, 0].tolist() == [96] * 32 and got.e[0, 0, 0] == -5
    assert np.abs(got.m[0, 1]).tolist() == [100] * 32 and got.e[0, 1, 0] == 0
