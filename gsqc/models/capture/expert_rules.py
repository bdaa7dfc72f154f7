# SPDX-License-Identifier: Apache-2.0
"""Rules for mixtures of experts: a router's choice, and the experts that it weighs.

before:  p = aten.softmax(aten.linear(x, router), -1)   v, i = aten.topk(p, 2)
         y = gsqc.experts(x, i, aten.div(v, aten.sum(v, [-1], True)), gate_up, down)
after:   r = routing(router(x, w), top_k=2)
         u = experts_up(x, gate_up, experts=4)   h = silu_gate(columns(u, …), columns(u, …))
         y = experts_down(weigh(h, r), down)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gsqc.models import expert_ops, model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Routing, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.layouts import Layout

aten = torch.ops.aten
_WEIGHTS, _CHOICE = range(2)
"""The results of aten.topk."""


def _last_axis(node: Node, axis: Any) -> None:
    rank = len(shape_of(node))
    axes = [axis] if isinstance(axis, int) else list(axis)
    if [a % rank for a in axes] != [rank - 1]:
        raise Unsupported(f" over axes {axes}")


def _routing(c: GraphBuilder, arg: Any, form: Form = Form.ROUTED) -> Routing:
    routing = c.value_of(arg, form).routing
    assert routing is not None
    return routing


def softmax(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.softmax(x, -1) of a router's logits: of all, or of the chosen ones."""
    x, axis = node.args[:2]
    assert isinstance(x, Node)
    _last_axis(x, axis)
    if c.values[x].form is Form.ROUTED:
        routing = _routing(c, x)
        if routing.is_probability:
            raise Unsupported(" of probabilities")
        # A softmax over the chosen ones is that over all, divided by the sum of the chosen.
        made = replace(routing, is_probability=True, is_normalised=True)
    else:
        made = Routing(c.node_of(x, Form.ROWS), is_probability=True)
    return ExportedValue(Form.ROUTED, routing=made)


def topk(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.topk(x, k, -1): `chosen_part` takes its results."""
    x, k, axis = (*node.args, -1)[:3]
    assert isinstance(x, Node) and isinstance(k, int)
    _last_axis(x, axis)
    if c.values[x].form is Form.ROUTED:
        return ExportedValue(Form.ROUTED, routing=replace(_routing(c, x), top_k=k))
    return ExportedValue(Form.ROUTED, routing=Routing(c.node_of(x, Form.ROWS), top_k=k))


def chosen_part(c: GraphBuilder, node: Node) -> ExportedValue:
    """operator.getitem(aten.topk(…), index): the weights, or the choice."""
    source, index = node.args
    form = Form.ROUTED if index == _WEIGHTS else Form.CHOICE
    return ExportedValue(form, routing=_routing(c, source))


def total(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.sum(weights, [-1], True)."""
    x, axes, keeps = (*node.args, False)[:3]
    assert isinstance(x, Node)
    routing = _routing(c, x)
    _last_axis(x, axes)
    if not keeps:
        raise Unsupported(" without its axis")
    return ExportedValue(Form.TOTAL, routing=routing)


def normalised(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.div(weights, their sum)."""
    routing = _routing(c, node.args[0])
    if _routing(c, node.args[1], Form.TOTAL) != routing or not routing.is_probability:
        raise Unsupported(" by the sum of other numbers")
    return ExportedValue(Form.ROUTED, routing=replace(routing, is_normalised=True))


# --------------------------------------------------------------------------------------------------
# experts


def _weights(c: GraphBuilder, routing: Routing) -> Node:
    """The weight of each expert for each token [T, E], 0 if it is not chosen."""
    logits = routing.logits
    bias = logits if logits.target is model_ops.add_bias else None
    product: Any = logits.args[0] if bias else logits
    if product.target is not model_ops.linear or routing.top_k is None:
        raise Unsupported(" with a router of another kind")
    if not routing.is_probability:
        raise Unsupported(" with weights that are no probabilities")
    shape = logits.meta["shape"]
    vector: Any = bias.args[1:] if bias else ()
    made = c.emit(expert_ops.router, *product.args, *vector, shape=shape)
    settings = {"top_k": routing.top_k, "normalise": routing.is_normalised}
    return c.emit(expert_ops.routing, made, shape=shape, **settings)


def _parameter(c: GraphBuilder, arg: Any, shape: tuple[int, ...], layout: Layout) -> Node:
    name = c.value_of(arg, Form.PARAMETER).name
    return c.placeholder(name, shape, parameter=name, layout=layout)


def experts(c: GraphBuilder, node: Node) -> ExportedValue:
    """gsqc.experts(x, choice, weights, gate_up, down, biases, layout, gate)."""
    arguments: Any = node.args
    x, choice, weights, gate_up, down, up_bias, down_bias, *layout, gate, numbers = arguments
    routing = _routing(c, weights)
    if replace(_routing(c, choice, Form.CHOICE), is_normalised=routing.is_normalised,
               is_probability=routing.is_probability) != routing:  # fmt: skip
        raise Unsupported(" with weights of another choice")
    flipped, turns = layout
    rows = c.node_of(x, Form.ROWS)
    routed = _weights(c, routing)
    tokens, hidden = rows.meta["shape"]
    count = shape_of(gate_up)[0]
    width = shape_of(gate_up)[-1 if flipped else -2] // 2
    up_layout = Layout("rows", flipped, turns)
    w = _parameter(c, gate_up, (count * 2 * width, hidden), up_layout)
    both = (tokens, count, 2 * width)
    u = c.emit(expert_ops.experts_up, rows, w, shape=both, experts=count)
    if up_bias is not None:
        b = _parameter(c, up_bias, (count, 2 * width), Layout("vectors", False, turns))
        u = c.emit(expert_ops.add_expert_bias, u, b, shape=both)
    half = (tokens, count, width)
    parts = [
        c.emit(model_ops.columns, u, shape=half, start=start, count=width) for start in (0, width)
    ]
    function, settings = expert_ops.EXPERT_GATES[gate](*numbers)
    h = c.emit(function, *parts, shape=half, **settings)
    weighed = c.emit(expert_ops.weigh, h, routed, shape=(tokens, count * width))
    w = _parameter(c, down, (hidden, count * width), Layout("columns", flipped))
    y = c.emit(expert_ops.experts_down, weighed, w, shape=(tokens, hidden))
    if down_bias is not None:
        b = _parameter(c, down_bias, (hidden, count), Layout("matrix", transposed=True))
        of_biases = c.emit(expert_ops.experts_down, routed, b, shape=(tokens, hidden))
        y = c.emit(model_ops.add, y, of_biases, shape=(tokens, hidden))
    return ExportedValue(Form.ROWS, y)


EXPERT_RULES: dict[Any, Any] = {
    aten.topk.default: topk,
    custom_ops.experts: experts,
}
