# SPDX-License-Identifier: Apache-2.0
"""Rules for linears: a product with a weight, and its bias."""

from __future__ import annotations

from typing import Any

from gsqc.models import model_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder


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


def addmm(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.addmm(bias, x, weight [inputs, outputs]): the Conv1D of GPT-2.

    The weight's placeholder is that of a linear, [outputs, inputs], and has `meta["transposed"]`.
    """
    bias, x, w = node.args
    assert isinstance(w, Node)
    if any(node.kwargs.get(name, 1) != 1 for name in ("alpha", "beta")):
        raise Unsupported(" with factors")
    name = c.value_of(w, Form.PARAMETER).name
    inputs, outputs = shape_of(w)
    weight = c.placeholder(name, (outputs, inputs), parameter=name, transposed="transposed")
    if "transposed" not in weight.meta:
        raise Unsupported(" of a weight that another operator reads as it is stored")
    return _product(c, x, weight, bias, (c.tokens, outputs))
