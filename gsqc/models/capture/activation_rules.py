# SPDX-License-Identifier: Apache-2.0
"""Rules for activation functions, with and without a gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.layouts import Layout

aten = torch.ops.aten

_GATES: dict[Any, Callable[..., Any]] = {
    model_ops.silu: model_ops.silu_gate,
    model_ops.gelu: model_ops.gelu_gate,
    model_ops.relu_square: model_ops.relu_square_gate,
}
"""What an activation becomes where it is multiplied. The call of its own is then without use."""


def _rowwise(c: GraphBuilder, node: Node, function: Any, **attributes: Any) -> ExportedValue:
    x = c.node_of(node.args[0], Form.ROWS)
    return ExportedValue(Form.ROWS, c.emit(function, x, shape=x.meta["shape"], **attributes))


def silu(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.silu(x)."""
    return _rowwise(c, node, model_ops.silu)


def gelu(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.gelu(x, approximate="none")."""
    return _rowwise(c, node, model_ops.gelu, tanh=node.kwargs.get("approximate") == "tanh")


def relu(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.relu(x)."""
    return _rowwise(c, node, model_ops.relu)


def square(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.square(x) or aten.pow(x, 2), of a ReLU."""
    x = c.node_of(node.args[0], Form.ROWS)
    if x.target is not model_ops.relu or node.args[1:] not in ((), (2,), (2.0,)):
        raise Unsupported(" of activations other than a ReLU")
    source: Any = x.args[0]
    return ExportedValue(Form.ROWS, c.emit(model_ops.relu_square, source, shape=x.meta["shape"]))


def sigmoid(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.sigmoid(x) or of x times a number, which only a product with x may read."""
    x, factor = c.node_of(node.args[0], Form.ROWS), 1.0
    if x.target is model_ops.scale:
        source: Any = x.args[0]
        number: Any = x.kwargs["factor"]
        x, factor = source, number
    return ExportedValue(Form.SIGMOID, x, number=factor)


def times_sigmoid(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.mul(x, sigmoid(factor · x)), in any order."""
    a, b = node.args
    if c.values[a].form is Form.SIGMOID:  # type: ignore[index]
        a, b = b, a
    x, share = c.node_of(a, Form.ROWS), c.value_of(b, Form.SIGMOID)
    if share.node is not x:
        raise Unsupported(" of a sigmoid and something else")
    settings = {} if share.number == 1 else {"factor": share.number}
    return ExportedValue(Form.ROWS, c.emit(model_ops.silu, x, shape=x.meta["shape"], **settings))


def clamp(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.clamp(x, -limit, limit)."""
    arguments: Any = (*node.args, node.kwargs.get("min"), node.kwargs.get("max"))
    numbers = [n for n in arguments[1:] if n is not None]
    value = c.value_of(arguments[0], Form.ROWS, Form.SPLIT, Form.HEADS, Form.JOINED)
    if len(numbers) != 2 or numbers[0] != -numbers[1] or not 0 < numbers[1] < math.inf:
        raise Unsupported(f" to {numbers}")
    assert value.node is not None
    shape = value.node.meta["shape"]
    y = c.emit(model_ops.clamp, value.node, shape=shape, limit=float(numbers[1]))
    return replace(value, node=y)


def xielu(c: GraphBuilder, node: Node) -> ExportedValue:
    """gsqc.xielu(x, alpha_p, alpha_n, beta)."""
    x, *numbers, beta = node.args
    rows, parameters = c.node_of(x, Form.ROWS), []
    for number, offset in zip(numbers, (0.0, beta), strict=True):
        name = c.value_of(number, Form.PARAMETER).name
        layout = Layout("softplus", offset=offset)  # type: ignore[arg-type]
        parameters.append(c.placeholder(name, (1,), parameter=name, layout=layout))
    y = c.emit(model_ops.xielu, rows, *parameters, shape=rows.meta["shape"], beta=beta)
    return ExportedValue(Form.ROWS, y)


def gate(c: GraphBuilder, x: Node, y: Node) -> ExportedValue:
    """The product of two activations, of which one is an activation function's result."""
    function, up = (x, y) if x.target in _GATES else (y, x)
    if function.target not in _GATES:
        raise Unsupported(" of two activations")
    source: Any = function.args[0]
    made = _GATES[function.target]
    shape = up.meta["shape"]
    return ExportedValue(Form.ROWS, c.emit(made, source, up, shape=shape, **function.kwargs))


ACTIVATION_RULES: dict[Any, Callable[[GraphBuilder, Node], ExportedValue]] = {
    aten.silu.default: silu,
    aten.sigmoid.default: sigmoid,
    aten.clamp.default: clamp,
    custom_ops.xielu: xielu,
    aten.gelu.default: gelu,
    aten.relu.default: relu,
    aten.square.default: square,
    aten.pow.Tensor_Scalar: square,
}
