# SPDX-License-Identifier: Apache-2.0
"""How lower_model writes attention: in training, and for tokens that join a cache.

before:  o = attention(q, k, v, scale)
after:   s = attention_scores(q, k, position)   p = softmax(s, position)   o = weigh_values(p, v)
                                                                                        training
         keys = put_row(keys, k[t], position[t])   values = put_column(values, v[t], …) for each t
         s = attention_scores(q, keys, position)   p = softmax_at(s, position)
         o = weigh_rounded(p, values)                                                 generation
         s = scores_both_ways(q, k, position)   p = softmax_both_ways(s, position, …)
         o = weigh_values(p, v)                                                       encoders

Both give a token the same bits: no rounding depends on a later token, or on how many there may be.
In generation, two tokens with the same position, k and v count as one, so a chunk of a prompt is
filled up with its last token. Query heads that share a key-value head: Ainslie et al. 2023, "GQA",
arXiv 2305.13245.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gsqc.graph.function import Node, shape_of, value_of
from gsqc.graph.roles import Kind, Notes, Role
from gsqc.numerics.formats import Spec, map_tensors
from gsqc.numerics.ops.alibi_softmax import alibi_softmax
from gsqc.numerics.ops.attention_scores import attention_scores
from gsqc.numerics.ops.attention_values import round_values, weigh_rounded, weigh_values
from gsqc.numerics.ops.both_ways import scores_both_ways, softmax_both_ways
from gsqc.numerics.ops.cache import put_column, put_row
from gsqc.numerics.ops.layout import pick, reshape, take_leading, transpose, view
from gsqc.numerics.ops.sink_softmax import sink_softmax
from gsqc.numerics.ops.softcap import softcap
from gsqc.numerics.ops.softmax import softmax, softmax_at
from gsqc.passes.lowering import ACTIVATION_BITS, Lowering
from gsqc.passes.scores import is_large

ATTENTION_BITS = 8
"""Attention keeps 8 bits whatever `--bits` says: its products are a few percent of the work."""


def _tokens(lowering: Lowering, x: Node) -> list[Node]:
    """x [H, T, D] -> its tokens [H, 1, D]."""
    heads, tokens, width = shape_of(x)
    if tokens == 1:
        return [x]
    by_token = lowering.call(transpose, x, permutation=(1, 0, 2))
    parts = (lowering.call(take_leading, by_token, start=t, count=1) for t in range(tokens))
    shapes = {"shape": (heads, 1, width), "exponent_shape": (heads, 1, 1)}
    return [lowering.call(view, part, **shapes) for part in parts]


def _cached(lowering: Lowering, name: str, put: Any, tokens: list[Node], axis: int) -> Node:
    """The cache `name` with each token in its place along `axis`. The function also returns it."""
    most = lowering.mode.cached
    assert most is not None

    def of_all_tokens(one: Spec) -> Spec:
        # As many as the longest sequence: shapes are static, and softmax_at leaves out the rest.
        return replace(one, shape=(*one.shape[:axis], most, *one.shape[axis + 1 :]))

    value = map_tensors(value_of(tokens[0]), of_all_tokens)
    cache = lowering.input(name, value, Role(Kind.CACHE, name))
    for t, token in enumerate(tokens):
        place = lowering.call(pick, lowering.position, index=t, rank=3)
        cache = lowering.call(put, cache, token, place)
    lowering.next_caches[f"{name}_out"] = (cache, Role(Kind.CACHE, name))
    return cache


def _keys(lowering: Lowering, k: Node) -> Node:
    """k [G, T, D] joins the keys, Row [G, S, D] with S the most tokens that there may be."""
    return _cached(lowering, "keys", put_row, _tokens(lowering, k), 1)


def _values(lowering: Lowering, v: Node) -> Node:
    """v [G, T, D] joins the values, rounded and by columns, Row-8 [G, D, S]."""
    rounded = _tokens(lowering, lowering.call(round_values, v))
    columns = [lowering.call(transpose, token, permutation=(0, 2, 1)) for token in rounded]
    return _cached(lowering, "values", put_column, columns, 2)


@dataclass(frozen=True)
class _Settings:
    """Those of `model_ops.attention`."""

    scale: float
    window: int | None = None
    cap: float | None = None
    sinks: bool = False
    causal: bool = True


def _softmax(
    lowering: Lowering,
    scores: Node,
    places: list[Node],
    of_heads: tuple[Node, ...],
    settings: _Settings,
) -> Node:
    """The softmax over the columns that a token sees, with a number for each head or without."""
    call, generates = lowering.call, lowering.mode.generates
    visible = _visible(settings)
    softmaxed: Node
    if not of_heads:
        operation = softmax_at if generates else softmax if settings.causal else softmax_both_ways
        softmaxed = call(operation, scores, *places, scale=settings.scale, **visible)
        return softmaxed
    shape = (*shape_of(scores)[:2], 1, 1)
    (numbers,) = of_heads
    if settings.sinks:
        operation = sink_softmax
        numbers = call(view, numbers, shape=shape, exponent_shape=(1, 1, 1, 1))
    else:
        operation = alibi_softmax
        numbers = call(reshape, numbers, shape=shape)
    attributes = {"scale": settings.scale, "in_record": not generates, **visible}
    softmaxed = call(operation, scores, *places, numbers, **attributes)
    return softmaxed


def _visible(settings: _Settings) -> dict[str, int]:
    """What the ops take to know how far a token sees."""
    if settings.window is None:
        return {}
    return {"window": settings.window} if settings.causal else {"reach": settings.window - 1}


def _probabilities(
    lowering: Lowering,
    q: Node,
    keys: Node,
    place: Node,
    of_heads: tuple[Node, ...],
    settings: _Settings,
) -> Node:
    """q as rows of heads that share keys [G, H/G·T, D], keys [G, C, D] -> P [G, H/G, T, C]."""
    call, generates = lowering.call, lowering.mode.generates
    widths = {"x_bits": ATTENTION_BITS, "w_bits": ATTENTION_BITS, "bits": 24}
    widths |= _visible(settings)
    places = [place]
    if settings.causal:
        scores = call(attention_scores, q, keys, place, **widths, in_record=not generates)
    else:
        scores = call(scores_both_ways, q, keys, place, **widths)
        places.append(call(reshape, place, shape=(1, 1, 1, shape_of(place)[2])))
    # Large scores are not kept for backward. Forward does not hold them for all heads either:
    # split_attention sees to that.
    large = is_large((*shape_of(q)[:2], shape_of(keys)[1]))
    scores.meta["notes"] = Notes(gradient_bits=ATTENTION_BITS, recompute=large)
    if settings.cap is not None:
        scores = call(softcap, scores, factor=settings.scale, cap=settings.cap, bits=24)
        settings = replace(settings, scale=1.0)
        scores.meta["notes"] = Notes(recompute=large)
    p = _softmax(lowering, scores, places, of_heads, settings)
    p.meta["notes"] = Notes(recompute=large)
    return p


def lower_attention(
    lowering: Lowering, q: Node, k: Node, v: Node, *of_heads: Node, **settings: Any
) -> Node:
    """q [H, T, D], k and v [G, T, D] Row-16 -> [H, T, D] Row-16.

    `of_heads` and the settings are those of `model_ops.attention`: sinks are a Row-16 [1, H],
    slopes int32 [1, H] in Q29.
    """
    heads, tokens, width = shape_of(q)
    generates, call = lowering.mode.generates, lowering.call
    keys = _keys(lowering, k) if generates else k
    groups, columns, _ = shape_of(keys)
    rows = (groups, heads // groups * tokens)
    # In generation a position is a column of the cache, and in training a place in a record.
    place = call(reshape, lowering.position, shape=(1, 1, tokens, 1))
    # Heads that share keys become rows of one product, as a view: k and v are not repeated.
    q = call(view, q, shape=(*rows, width), exponent_shape=(*rows, 1))
    p = _probabilities(lowering, q, keys, place, of_heads, _Settings(**settings))
    p = call(view, p, shape=(*rows, columns), exponent_shape=(*rows, 1))
    if generates:
        values = _values(lowering, v)
        o = call(weigh_rounded, p, values, columns=width, bits=ACTIVATION_BITS)
    else:
        o = call(weigh_values, p, v, bits=ACTIVATION_BITS)
        o.meta["notes"] = Notes(gradient_bits=ATTENTION_BITS)
    out: Node = call(view, o, shape=(heads, tokens, width), exponent_shape=(heads, tokens, 1))
    return out
