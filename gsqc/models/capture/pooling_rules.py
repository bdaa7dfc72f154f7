# SPDX-License-Identifier: Apache-2.0
"""Rules for the one vector of a text that a classifier reads: its first token's, or the mean.

before:  y = aten.div(aten.sum(aten.mul(x, mask), [1]), count)     y = aten.select(x, 1, 0)
after:   y = record_mean(x)                                        y = x

What follows is computed for all tokens, and that of the first one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.column_rules import select
from gsqc.models.capture.expert_rules import total
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.number_rules import divide

aten = torch.ops.aten


def _first_token(c: GraphBuilder, node: Node) -> ExportedValue:
    """Of a classifier's text aten.select(x, 1, 0). Of others, `column_rules.select`."""
    x, axis, index = node.args
    assert isinstance(x, Node)
    if not c.exported.classifies or c.values[x].form is not Form.ROWS:
        return select(c, node)
    if index != 0 or axis != len(shape_of(x)) - 2:
        raise Unsupported(f" {index} of axis {axis}")
    return c.values[x]


def _require_tokens(c: GraphBuilder, node: Node) -> None:
    """Unsupported unless it goes over the tokens of a classifier's text."""
    arguments: Any = node.args
    x, axes = arguments[:2]
    rank = len(shape_of(x))
    if not c.exported.classifies or [axis % rank for axis in axes] != [rank - 2]:
        raise Unsupported(f" over axes {list(axes)}")


def _sum(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.sum(x, [1]) over tokens. Of weights of experts, `expert_rules.total`."""
    x = node.args[0]
    assert isinstance(x, Node)
    if c.values[x].form is not Form.ROWS:
        return total(c, node)
    _require_tokens(c, node)
    return ExportedValue(Form.OVER_TOKENS, c.values[x].node)


def _mean(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.mean(x, [1]) over tokens."""
    x = c.node_of(node.args[0], Form.ROWS)
    _require_tokens(c, node)
    return _record_mean(c, x)


def _record_mean(c: GraphBuilder, x: Node) -> ExportedValue:
    y = c.emit(model_ops.record_mean, x, shape=x.meta["shape"])
    return ExportedValue(Form.ROWS, y)


def _divide(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.div(sum over tokens, their count). Of others, `number_rules.divide`."""
    x, divisor = node.args
    assert isinstance(x, Node)
    if c.values[x].form is not Form.OVER_TOKENS:
        return divide(c, node)
    known = c.values[divisor].known if isinstance(divisor, Node) else None
    count = c.number_of(divisor) if known is None else known
    if count is None or not (torch.as_tensor(count) == c.tokens).all():
        raise Unsupported(" of a sum over tokens by another number than their count")
    return _record_mean(c, c.node_of(x, Form.OVER_TOKENS))


POOLING_RULES: dict[Any, Callable[[GraphBuilder, Node], ExportedValue]] = {
    aten.select.int: _first_token,
    aten.sum.dim_IntList: _sum,
    aten.mean.dim: _mean,
    aten.div.Tensor: _divide,
}
