# SPDX-License-Identifier: Apache-2.0
"""Attention of a chunk against chunks of one token, on keys and values that grow from token to
token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gsqc.graph.function import Function, add_placeholder
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Row, Spec, flatten, to_spec
from gsqc.numerics.ops.registry import Op, evaluate
from gsqc.passes.expand_composites import expand_function
from gsqc.passes.lower_chunk_attention import lower_chunk_attention

HEADS, GROUPS, WIDTH, COLUMNS, TOKENS = 4, 2, 16, 40, 4


def row(rng: np.random.Generator, heads: int, growth: int) -> Row:
    """[heads, TOKENS, WIDTH]: each token 2^growth larger than the one before."""
    m = rng.integers(-(2**15) + 1, 2**15, (heads, TOKENS, WIDTH)).astype(np.int16)
    e = np.broadcast_to(
        growth * np.arange(TOKENS, dtype=np.int32)[None, :, None] - 16, (heads, TOKENS, 1)
    )
    return Row(m, e.copy(), 16)


def tokens_of(x: Row, start: int, count: int) -> Row:
    return Row(x.m[:, start : start + count], x.e[:, start : start + count], x.bits)


def attend(
    q: Row, k: Row, v: Row, keys: Row, values: Row, positions: list[int]
) -> tuple[Row, Row, Row]:
    """The lowered graph, op by op in numpy: the result and the new caches."""
    function = Function("attention")
    given = {"q": q, "k": k, "v": v, "keys": keys, "values": values}
    nodes = {
        name: add_placeholder(function.graph, name, to_spec(x), Role(Kind.INPUT, name))
        for name, x in given.items()
    }
    position = add_placeholder(
        function.graph, "position", Spec((len(positions),), "int32"), Role(Kind.INPUT, "position")
    )
    out = lower_chunk_attention(
        function.graph,
        nodes["q"],
        (nodes["k"], nodes["v"]),
        (nodes["keys"], nodes["values"]),
        position,
        scale=0.25,
        bits=8,
    )
    names = ("out", "keys_out", "values_out")
    function.set_outputs({n: (x, Role(Kind.OUTPUT, n)) for n, x in zip(names, out, strict=True)})
    expand_function(function)
    known = {nodes[name]: x for name, x in given.items()} | {
        position: np.array(positions, np.int32)
    }
    for node in function.calls():
        assert isinstance(node.target, Op)
        operands: Any = node.args
        known[node] = evaluate(node.target, [known[a] for a in operands], dict(node.kwargs))
    return tuple(known[n] for n in function.results.values())  # type: ignore[return-value]


def cache() -> Row:
    return Row(
        np.zeros((GROUPS, COLUMNS, WIDTH), np.int16), np.zeros((GROUPS, COLUMNS, 1), np.int32), 16
    )


def test_later_tokens_of_the_chunk_are_not_felt() -> None:
    """2^8 larger keys move the exponent of a row of scores, 2^5 larger values the exponents of a
    group and its row.
    """
    rng = np.random.default_rng(3)
    q, k, v = row(rng, HEADS, 0), row(rng, GROUPS, 8), row(rng, GROUPS, 5)
    first = 30  # the chunk goes over the border of a group of values
    chunk, *caches = attend(q, k, v, cache(), cache(), list(range(first, first + TOKENS)))
    keys, values = cache(), cache()
    for t in range(TOKENS):
        token, keys, values = attend(
            *(tokens_of(x, t, 1) for x in (q, k, v)), keys, values, [first + t]
        )
        for got, expected in zip(flatten(tokens_of(chunk, t, 1)), flatten(token), strict=True):
            np.testing.assert_array_equal(got, expected)
    for got, expected in zip(flatten(caches), flatten([keys, values]), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_chunk_filled_up_with_its_last_token() -> None:
    rng = np.random.default_rng(4)
    q, k, v = row(rng, HEADS, 0), row(rng, GROUPS, 3), row(rng, GROUPS, 3)
    filled = [
        Row(np.repeat(x.m, [1, 3, 0, 0], 1), np.repeat(x.e, [1, 3, 0, 0], 1), 16) for x in (q, k, v)
    ]
    expected = attend(*(tokens_of(x, 0, 2) for x in (q, k, v)), cache(), cache(), [7, 8])
    got = attend(*filled, cache(), cache(), [7, 8, 8, 8])
    parts = (
        flatten([tokens_of(got[0], 3, 1), *got[1:]]),
        flatten([tokens_of(expected[0], 1, 1), *expected[1:]]),
    )
    for a, b in zip(*parts, strict=True):
        np.testing.assert_array_equal(a, b)
