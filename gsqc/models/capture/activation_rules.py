# SPDX-License-Identifier: Apache-2.0
"""Rules for activation functions, with and without a gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported
from gsqc.models.capture.graph_builder import GraphBuilder

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
    aten.gelu.default: gelu,
    aten.relu.default: relu,
    aten.square.default: square,
    aten.pow.Tensor_Scalar: square,
}
