# SPDX-License-Identifier: Apache-2.0
"""How lower_model writes attention: in training, for one token with a cache, and for several tokens
that join one.

before:  o = attention(q, k, v, scale)
after:   s = linear(q, k)   p = softmax(s, position)   o = linear(p, transpose(v))         training
         keys = put_row(keys, k, position)   s = linear(q, keys)   p = softmax_at(s) …    one token

lower_chunk_attention has the third. Query heads that share a key-value head: Ainslie et al. 2023,
"GQA", arXiv 2305.13245.
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import Node, shape_of, value_of
from gsqc.graph.roles import Kind, Notes, Role
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.ops.cache import put_row
from gsqc.numerics.ops.layout import reshape, transpose, view
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.softmax import softmax, softmax_at
from gsqc.passes.lower_chunk_attention import lower_chunk_attention
from gsqc.passes.lowering import Lowering
from gsqc.passes.scores import is_large

ATTENTION_BITS = 8
"""Attention keeps 8 bits whatever `--bits` says: its products are a few percent of the work."""


def _cache(lowering: Lowering, name: str, new: Node) -> Node:
    """The placeholder of a cache of what `new` holds for its tokens."""
    heads, _, width = shape_of(new)
    assert lowering.mode.cached is not None
    # As many rows as the longest sequence: shapes are static, and softmax_at leaves out the rest.
    shape, bits = (heads, lowering.mode.cached, width), value_of(new).bits
    dtype = "int16" if bits <= 16 else "int32"
    value = Row(Spec(shape, dtype), Spec((*shape[:-1], 1), "int32"), bits)
    return lowering.input(name, value, Role(Kind.CACHE, name))


def _keep(lowering: Lowering, name: str, cache: Node) -> None:
    """The function also returns the cache's next value."""
    lowering.next_caches[f"{name}_out"] = (cache, Role(Kind.CACHE, name))


def _remember(lowering: Lowering, name: str, new: Node) -> Node:
    """The cache with the token's row in its place."""
    place = lowering.call(reshape, lowering.position, shape=(1, 1, 1))
    cache: Node = lowering.call(put_row, _cache(lowering, name, new), new, place)
    _keep(lowering, name, cache)
    return cache


def _chunk(lowering: Lowering, q: Node, k: Node, v: Node, scale: float) -> Node:
    old = _cache(lowering, "keys", k), _cache(lowering, "values", v)
    out, keys, values = lower_chunk_attention(
        lowering.graph, q, (k, v), old, lowering.position, scale=scale, bits=ATTENTION_BITS
    )
    _keep(lowering, "keys", keys)
    _keep(lowering, "values", values)
    return out


def lower_attention(lowering: Lowering, q: Node, k: Node, v: Node, *, scale: float) -> Node:
    """q [H, T, D], k and v [G, T, D] Row-16 -> [H, T, D] Row-16."""
    heads, tokens, width = shape_of(q)
    generates = lowering.mode.generates
    if generates and tokens > 1:
        return _chunk(lowering, q, k, v, scale)
    if generates:
        k, v = _remember(lowering, "keys", k), _remember(lowering, "values", v)
    groups, columns = shape_of(k)[:2]
    shared = heads // groups
    rows, split = (groups, shared * tokens), (groups, shared, tokens)
    call: Any = lowering.call

    def product(x: Node, w: Node, bits: int, *, recompute: bool = False) -> Node:
        y: Node = call(linear, x, w, x_bits=ATTENTION_BITS, w_bits=ATTENTION_BITS, bits=bits)
        y.meta["notes"] = Notes(gradient_bits=ATTENTION_BITS, recompute=recompute)
        return y

    # Heads that share keys become rows of one product, as a view: k and v are not repeated.
    q = call(view, q, shape=(*rows, width), exponent_shape=(*rows, 1))
    # Large scores are not kept for backward. Forward does not hold them for all heads either:
    # split_attention sees to that.
    large = is_large((*rows, columns))
    scores = product(q, k, 24, recompute=large)
    # softmax tells a row's place by the axis before the last, so heads and tokens part again.
    scores = call(view, scores, shape=(*split, columns), exponent_shape=(*split, 1))
    # In generation a position is a column of the cache, and in training a place in a record.
    place = call(reshape, lowering.position, shape=(1, 1, tokens, 1))
    p = call(softmax_at if generates else softmax, scores, place, scale=scale)
    p.meta["notes"] = Notes(recompute=large)
    p = call(view, p, shape=(*rows, columns), exponent_shape=(*rows, 1))
    # A product reduces over the last axis of both sides: for v that is the tokens.
    o = product(p, call(transpose, v, permutation=(0, 2, 1)), 16)
    out: Node = call(view, o, shape=(heads, tokens, width), exponent_shape=(heads, tokens, 1))
    return out
