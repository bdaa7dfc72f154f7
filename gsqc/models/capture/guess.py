# SPDX-License-Identifier: Apache-2.0
"""The form that a value of an unknown operator probably has, so that a survey of a model that is
refused can go on behind it.
"""

from __future__ import annotations

from torch import Tensor

from gsqc.models.capture.forms import ExportedValue, Form, Node
from gsqc.models.capture.graph_builder import GraphBuilder


def guess(c: GraphBuilder, node: Node) -> ExportedValue:
    """The value of an exported node by its shape alone: [1, T, n], [1, H, T, D] or [1, T, H, D]."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return ExportedValue(Form.UNKNOWN)
    shape = tuple(int(size) for size in value.shape)
    if shape[:2] == (1, c.tokens) and len(shape) == 3:
        return ExportedValue(Form.ROWS, c.emit(_guessed, shape=shape[1:]))
    if shape[:1] == (1,) and len(shape) == 4 and shape[2] == c.tokens:
        return ExportedValue(Form.HEADS, c.emit(_guessed, shape=shape[1:]))
    if shape[:2] == (1, c.tokens) and len(shape) == 4:
        joined = (c.tokens, shape[2] * shape[3])
        return ExportedValue(Form.SPLIT, c.emit(_guessed, shape=joined))
    return ExportedValue(Form.UNKNOWN)


def _guessed() -> Tensor:
    """Stands for the operator. The graph of a survey is never run."""
    raise AssertionError("a survey's graph is not run")
