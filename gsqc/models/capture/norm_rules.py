# SPDX-License-Identifier: Apache-2.0
"""The rule of LayerNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder

DEFAULT_EPS = 1e-5
"""Of aten.layer_norm."""


def _layer_norm(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.layer_norm(x, shape, weight=None, bias=None, eps, …), over the last axis."""
    x, normalised, *rest = node.args
    weight, bias, eps = (*rest, *(None, None, DEFAULT_EPS)[len(rest) :])[:3]
    rows = c.node_of(x, Form.ROWS)
    shape = rows.meta["shape"]
    if list(normalised) != [shape[-1]]:  # type: ignore[arg-type]
        raise Unsupported(f" over {normalised}")
    if weight is None and bias is not None:
        raise Unsupported(" with a bias and no weight")
    affine = [
        c.placeholder(name, shape_of(a), parameter=name)
        for a in (weight, bias)
        if isinstance(a, Node)
        for name in [c.value_of(a, Form.PARAMETER).name]
    ]
    made = c.emit(model_ops.layer_norm, rows, *affine, shape=shape, eps=float(eps))  # type: ignore[arg-type]
    return ExportedValue(Form.ROWS, made)


NORM_RULES: dict[Any, Callable[[GraphBuilder, Node], ExportedValue]] = {
    torch.ops.aten.layer_norm.default: _layer_norm,
}
