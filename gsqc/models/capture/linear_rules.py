# SPDX-License-Identifier: Apache-2.0
"""Rules for linears: a product with a weight, and its bias."""

from __future__ import annotations

from typing import Any

from gsqc.models import model_ops
from gsqc.models.capture.attention_rules import product as attention_product
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.layouts import TRANSPOSED


def _product(
    c: GraphBuilder, x: Any, weight: Node, bias: Any, shape: tuple[int, ...]
) -> ExportedValue:
    y = c.emit(model_ops.linear, c.node_of(x, Form.ROWS), weight, shape=shape)
    if bias is not None:
        name = c.value_of(bias, Form.PARAMETER).name
        vector = c.placeholder(name, shape_of(bias), parameter=name)
        y = c.emit(model_ops.add_bias, y, vector, shape=shape)
    return ExportedValue(Form.ROWS, y)


def linear(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.linear(x, weight, bias=None)."""
    x, w, bias = (*node.args, None)[:3]
    assert isinstance(w, Node)
    name = c.value_of(w, Form.PARAMETER).name
    weight = c.placeholder(name, shape_of(w), parameter=name)
    return _product(c, x, weight, bias, (c.tokens, shape_of(node)[-1]))


def transposed(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.numpy_T(weight), for a product that a model writes out."""
    name = c.value_of(node.args[0], Form.PARAMETER).name
    return ExportedValue(Form.TRANSPOSED, name=name)


def matmul(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.matmul(x, weight transposed), or a product of attention."""
    x, w = node.args
    assert isinstance(w, Node)
    if c.values[w].form is not Form.TRANSPOSED:
        return attention_product(c, node)
    name, (inputs, outputs) = c.values[w].name, shape_of(w)
    weight = c.placeholder(name, (outputs, inputs), parameter=name)
    return _product(c, x, weight, None, (c.tokens, outputs))


def bias(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.add(x, parameter): a bias of a product that a model writes out."""
    x, vector = node.args
    name = c.value_of(vector, Form.PARAMETER).name
    rows = c.node_of(x, Form.ROWS)
    if rows.target is not model_ops.linear:
        raise Unsupported(" of a parameter")
    made = c.placeholder(name, shape_of(vector), parameter=name)  # type: ignore[arg-type]
    return ExportedValue(
        Form.ROWS, c.emit(model_ops.add_bias, rows, made, shape=rows.meta["shape"])
    )


def addmm(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.addmm(bias, x, weight [inputs, outputs]): the Conv1D of GPT-2.

    The weight's placeholder is that of a linear, [outputs, inputs], and has `meta["layout"]`.
    """
    bias, x, w = node.args
    assert isinstance(w, Node)
    if any(node.kwargs.get(name, 1) != 1 for name in ("alpha", "beta")):
        raise Unsupported(" with factors")
    name = c.value_of(w, Form.PARAMETER).name
    inputs, outputs = shape_of(w)
    weight = c.placeholder(name, (outputs, inputs), parameter=name, layout=TRANSPOSED)
    if "layout" not in weight.meta:
        raise Unsupported(" of a weight that another operator reads as it is stored")
    return _product(c, x, weight, bias, (c.tokens, outputs))
