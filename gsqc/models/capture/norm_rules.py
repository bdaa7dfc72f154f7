# SPDX-License-Identifier: Apache-2.0
"""The rule of LayerNorm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.layout_rules import split

DEFAULT_EPS = 1e-5
"""Of aten.layer_norm."""


def _layer_norm(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.layer_norm(x, shape, weight=None, bias=None, eps, …), over the last axis."""
    arguments: Any = (*node.args, *(None, None, None, None, DEFAULT_EPS)[len(node.args) :])
    x, normalised, weight, bias, eps = arguments[:5]
    value = c.value_of(x, Form.ROWS, Form.SPLIT, Form.HEADS, Form.JOINED)
    if value.form is Form.SPLIT:  # each head by itself: from here on, heads are an axis
        value = split(c, x)
    assert value.node is not None
    shape = value.node.meta["shape"]
    if list(normalised) != [shape[-1]]:
        raise Unsupported(f" over {normalised}")
    if weight is None and bias is not None:
        raise Unsupported(" with a bias and no weight")
    affine, settings = [], {"eps": float(eps)}
    for vector, forms in ((weight, (Form.PARAMETER, Form.SHIFTED)), (bias, (Form.PARAMETER,))):
        if vector is not None:
            known = c.value_of(vector, *forms)
            affine.append(c.placeholder(known.name, shape_of(vector), parameter=known.name))
            settings |= {"offset": known.number} if known.form is Form.SHIFTED else {}
    made = c.emit(model_ops.layer_norm, value.node, *affine, shape=shape, **settings)
    return replace(value, node=made)


def shifted_weight(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.add(parameter, number): some norms have 1 + weight for a weight."""
    parameter, number = node.args
    offset = c.number_of(number)
    if offset is None or node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" of a parameter")
    return ExportedValue(
        Form.SHIFTED, name=c.value_of(parameter, Form.PARAMETER).name, number=offset
    )


NORM_RULES: dict[Any, Callable[[GraphBuilder, Node], ExportedValue]] = {
    torch.ops.aten.layer_norm.default: _layer_norm,
}
