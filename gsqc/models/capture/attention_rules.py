# SPDX-License-Identifier: Apache-2.0
"""Rules for attention that a model writes out: products, masks and a softmax become one call.

before:  s = aten.matmul(q, k_t)   s = aten.add(aten.mul(s, 0.25), mask)
         p = aten.softmax(s, -1)   y = aten.matmul(p, v)
after:   y = attention(q, k, v, scale=0.25)

What is added to the scores is told by its numbers. Each token must see the tokens before it, or
those of a window, and what is left must be the biases of ALiBi: -slope · distance in each head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gsqc.models import model_ops
from gsqc.models.capture.captured import add_constant
from gsqc.models.capture.expert_rules import softmax as routed_softmax
from gsqc.models.capture.forms import ExportedValue, Form, Node, Scores, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.known_rules import HIDDEN

aten = torch.ops.aten
SLOPES = "alibi_slopes"
"""The constant that holds the slopes of ALiBi, [H]."""
STEEPEST = 1 - 2.0**-20
"""A slope must be below 1, also when it is rounded."""
_ROUNDED = 2.0**-8
"""Falcon rounds its biases to bfloat16."""


def product(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.matmul(x, y) or aten.bmm: of queries and keys, of probabilities and values."""
    x, y = node.args
    assert isinstance(x, Node)
    if c.values[x].form is Form.PROBABILITIES:
        return _attention(c, c.values[x], c.node_of(y, Form.HEADS))
    q, k = c.node_of(x, Form.HEADS), c.node_of(y, Form.KEYS)
    return ExportedValue(Form.SCORES, scores=Scores(q, k, 1.0))


def biased_product(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.baddbmm(bias, q, k_t, beta=1, alpha=1)."""
    bias, q, k = node.args
    term = c.value_of(bias, Form.KNOWN).known * float(node.kwargs.get("beta", 1))  # type: ignore[arg-type]
    scale = float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    nodes = c.node_of(q, Form.HEADS), c.node_of(k, Form.KEYS)
    return ExportedValue(Form.SCORES, scores=Scores(*nodes, scale, (term,)))


def _plus(c: GraphBuilder, scores: Any, term: Tensor) -> ExportedValue:
    known = c.value_of(scores, Form.SCORES).scores
    assert known is not None
    return ExportedValue(Form.SCORES, scores=known.plus(term))


def add_term(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.add(scores, known numbers), in any order."""
    x, y = node.args[:2]
    if c.values[x].form is not Form.SCORES:  # type: ignore[index]
        x, y = y, x
    if node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" with alpha")
    return _plus(c, x, c.value_of(y, Form.KNOWN).known)


def subtract_term(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.sub(scores, known numbers)."""
    x, y = node.args[:2]
    if node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" with alpha")
    return _plus(c, x, -c.value_of(y, Form.KNOWN).known)


def _hiding(mask: Tensor, number: float | None) -> Tensor:
    """The term that hides the columns where a mask holds."""
    if number is None or number > HIDDEN:
        raise Unsupported(" of scores with a number that hides nothing")
    return torch.where(mask, -torch.inf, 0.0)


def masked_fill(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.masked_fill(scores, mask, number)."""
    x, mask, number = node.args
    hiding = _hiding(c.value_of(mask, Form.KNOWN).known, c.number_of(number))
    return _plus(c, x, hiding)


def where(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.where(mask, scores, number)."""
    mask, x, number = node.args
    hiding = _hiding(~c.value_of(mask, Form.KNOWN).known, c.number_of(number))
    return _plus(c, x, hiding)


def at_least(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.maximum(scores, number) of a number that hides: scores are finite anyway."""
    x, number = node.args
    least = c.number_of(number)
    if least is None or least > HIDDEN:
        raise Unsupported(" of two activations")
    return ExportedValue(Form.SCORES, scores=c.value_of(x, Form.SCORES).scores)


def softmax(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.softmax(scores, -1), or that of a router."""
    x, axis = node.args[:2]
    if isinstance(x, Node) and c.values[x].form in (Form.ROWS, Form.ROUTED):
        return routed_softmax(c, node)
    value = c.value_of(x, Form.SCORES)
    if axis % len(shape_of(node)) != len(shape_of(node)) - 1:  # type: ignore[operator]
        raise Unsupported(f" over axis {axis}")
    return ExportedValue(Form.PROBABILITIES, scores=value.scores)


def scaled_dot_product(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=…)."""
    arguments: Any = (*node.args, *(None, 0.0, False)[len(node.args) - 3 :])
    q, k, v = (c.node_of(a, Form.HEADS) for a in arguments[:3])
    given: Any = node.kwargs.get("scale")
    scale = q.meta["shape"][-1] ** -0.5 if given is None else float(given)
    if arguments[3] is None:
        raise Unsupported(" without a mask")
    mask = c.value_of(arguments[3], Form.KNOWN).known
    term = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask
    scores = Scores(q, k, scale, (term,))
    return _attention(c, ExportedValue(Form.PROBABILITIES, scores=scores), v)


# --------------------------------------------------------------------------------------------------
# what was added to the scores


def _attention(c: GraphBuilder, probabilities: ExportedValue, v: Node) -> ExportedValue:
    scores = probabilities.scores
    assert scores is not None
    q, k = scores.q, scores.k
    if len({n.meta["shape"][-1] for n in (q, k, v)}) != 1:
        raise Unsupported(" with values of another width than keys")
    if c.exported.hides_window:
        raise Unsupported(" with a sliding window in its mask")
    window, slopes = _told(scores, q.meta["shape"][0], c.tokens)
    settings = {"scale": scores.scale} | ({} if window is None else {"window": window})
    of_heads = [] if slopes is None else [_constant(c, slopes)]
    y = c.emit(model_ops.attention, q, k, v, *of_heads, shape=q.meta["shape"], **settings)
    return ExportedValue(Form.HEADS, y)


def _told(scores: Scores, heads: int, tokens: int) -> tuple[int | None, Tensor | None]:
    """The window and the slopes [H], or None for each, of what was added to the scores."""
    terms = [t.double().reshape((1,) * (3 - t.ndim) + t.shape[-3:]) for t in scores.terms]
    windows, slopes = set(), []
    for head in range(heads if any(len(t) > 1 for t in terms) else 1):
        # One head at a time: those of all heads would be large.
        total = torch.zeros(tokens, tokens, dtype=torch.float64)
        for term in terms:
            total = total + term[head if len(term) > 1 else 0]
        windows.add(window_of(total < HIDDEN))
        slopes.append(_slope(total))
    if len(windows) != 1:
        raise Unsupported(" with a window for each head")
    return windows.pop(), torch.stack(slopes) if any(slopes) else None


def window_of(hidden: Tensor) -> int | None:
    """The tokens that a token sees by a mask [T, T], or None for all before it.

    Unsupported for another mask than that of causal attention or of a window.
    """
    tokens = len(hidden)
    seen = tokens - int(hidden[-1].sum())
    behind = torch.ones_like(hidden)
    if not torch.equal(hidden, behind.triu(1) | behind.tril(-seen)):
        raise Unsupported(" that is not causal")
    return None if seen == tokens else seen


def _slope(bias: Tensor) -> Tensor:
    """How much a bias [T, T] falls with each token of distance, where it hides nothing."""
    visible = bias >= HIDDEN
    last = torch.nonzero(visible[-1]).flatten()
    ends = bias[-1, last[[0, -1]]]
    slope = (ends[1] - ends[0]) / max(len(last) - 1, 1)
    places = torch.arange(len(bias))
    straight = bias.diagonal()[:, None] - slope * (places[:, None] - places)
    most = _ROUNDED * bias[visible].abs().max()
    if ((bias - straight).abs()[visible] > most).any():
        raise Unsupported(" with biases that are no slopes")
    if not 0 <= slope < STEEPEST:
        raise Unsupported(f" with a slope of {float(slope)}")
    return slope


def _constant(c: GraphBuilder, slopes: Tensor) -> Node:
    """The constant that holds the slopes: all layers with the same ones share it."""
    name = add_constant(c.exported.constants, SLOPES, slopes.numpy())
    return c.placeholder(name, tuple(slopes.shape), constant=name)


ATTENTION_RULES: dict[Any, Any] = {
    aten.bmm.default: product,
    aten.sub.Tensor: subtract_term,
    aten.baddbmm.default: biased_product,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
    aten.where.self: where,
    aten.where.ScalarOther: where,
    aten.maximum.default: at_least,
    aten.max.other: at_least,
    aten.softmax.int: softmax,
    aten._softmax.default: softmax,
    aten.scaled_dot_product_attention.default: scaled_dot_product,
}
