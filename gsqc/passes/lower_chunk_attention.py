# SPDX-License-Identifier: Apache-2.0
"""lower_chunk_attention: attention of several tokens that join a cache, to the bits of one token
after the other.

before:  o = attention(q, k, v)      of T tokens, keys and values of the earlier ones in a cache
after:   keys = put_row(… put_row(keys, k[0]) …, k[T-1])
         c = mask_future(gse_matmul(q, keys))   p = softmax_at(to_row(c))
         values = put_row(values, v[t])   o[t] = linear(p[t], valuesᵀ)            for each t

The caches must hold zeros beyond the tokens that were read. Two tokens with the same position and
the same k and v count as one, so a chunk is filled up with its last token.
"""

from __future__ import annotations

import torch.fx

from gsqc.graph.function import GraphCalls, Node, shape_of
from gsqc.numerics.ops.cache import mask_future, put_row
from gsqc.numerics.ops.layout import pick, reshape, take_leading, transpose, view
from gsqc.numerics.ops.linear import linear, product, to_row
from gsqc.numerics.ops.softmax import softmax_at
from gsqc.passes.join_parts import join_parts


def _as_rows(call: GraphCalls, x: Node) -> list[Node]:
    """x [H, T, D] -> its tokens [H, 1, D]."""
    heads, tokens, width = shape_of(x)
    by_token = call(transpose, x, permutation=(1, 0, 2))
    parts = (call(take_leading, by_token, start=t, count=1) for t in range(tokens))
    return [call(view, p, shape=(heads, 1, width), exponent_shape=(heads, 1, 1)) for p in parts]


def lower_chunk_attention(
    graph: torch.fx.Graph,
    q: Node,
    new: tuple[Node, Node],
    caches: tuple[Node, Node],
    position: Node,
    *,
    scale: float,
    bits: int,
) -> tuple[Node, Node, Node]:
    """q [H, T, D], `new` keys and values [G, T, D], `caches` [G, S, D], all Row-16; position int32
    [T], ascending.

    Returns the result [H, T, D] Row-16 and the new caches. `bits` are those of the products'
    operands.
    """
    call = GraphCalls(graph)
    keys, values = caches
    heads, tokens, width = shape_of(q)
    places = [call(pick, position, index=t, rank=3) for t in range(tokens)]
    for row, place in zip(_as_rows(call, new[0]), places, strict=True):
        keys = call(put_row, keys, row, place)
    p = _probabilities(call, q, keys, position, scale=scale, bits=bits)
    outputs = []
    for t, (row, place) in enumerate(zip(_as_rows(call, new[1]), places, strict=True)):
        # Values share exponents along the tokens. Token t must see them rounded as if the later
        # tokens were not there yet, hence a product for each t.
        values = call(put_row, values, row, place)
        groups, columns, _ = shape_of(values)
        p_t = call(take_leading, p, start=t, count=1)
        shape = (groups, heads // groups)
        p_t = call(view, p_t, shape=(*shape, columns), exponent_shape=(*shape, 1))
        by_column = call(transpose, values, permutation=(0, 2, 1))
        o = call(linear, p_t, by_column, x_bits=bits, w_bits=bits, bits=16)
        outputs.append(call(view, o, shape=(1, heads, width), exponent_shape=(1, heads, 1)))
    return call(transpose, join_parts(graph, outputs), permutation=(1, 0, 2)), keys, values


def _probabilities(
    call: GraphCalls, q: Node, keys: Node, position: Node, *, scale: float, bits: int
) -> Node:
    """q [H, T, D], keys [G, S, D] -> P [T, G, H / G, S], tokens first."""
    (heads, tokens, width), (groups, columns, _) = shape_of(q), shape_of(keys)
    rows, split = (groups, heads // groups * tokens), (groups, heads // groups, tokens)
    x = call(view, q, shape=(*rows, width), exponent_shape=(*rows, 1))
    # The product is taken apart, because the mask belongs between its sum and its rounding. A row
    # is rounded over all columns: a later token of the chunk, were it not zero, could take bits.
    c, row_e, column_e, offset = product(call, x, keys, x_bits=bits, w_bits=bits)
    at = call(reshape, position, shape=(1, 1, tokens, 1))
    c = call(mask_future, call(reshape, c, shape=(*split, columns)), at)
    c = call(reshape, c, shape=(*rows, columns))
    scores = call(to_row, c, row_e, column_e, offset=offset, bits=24)
    scores = call(view, scores, shape=(*split, columns), exponent_shape=(*split, 1))
    p = call(softmax_at, scores, at, scale=scale)
    moved: Node = call(transpose, p, permutation=(2, 0, 1, 3))
    return moved
