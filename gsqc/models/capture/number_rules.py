# SPDX-License-Identifier: Apache-2.0
"""Rules for activations and numbers that are known when compiling: factors, and softcaps, which are
written with factors.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gsqc.models import model_ops
from gsqc.models.capture.expert_rules import normalised
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported
from gsqc.models.capture.graph_builder import GraphBuilder


def divide(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.div.Tensor(x, number)."""
    x, divisor = node.args
    if isinstance(divisor, Node) and c.values[divisor].form is Form.TOTAL:
        return normalised(c, node)
    number = c.number_of(divisor)
    if not number:
        raise Unsupported(" by what is not a number")
    return scaled(c, x, 1 / number)


def scaled(c: GraphBuilder, x: Any, factor: float) -> ExportedValue:
    """Activations, or a number, times a number. Unsupported unless it is positive."""
    forms = (Form.ROWS, Form.SPLIT, Form.HEADS, Form.JOINED, Form.NUMBER, Form.SCORES)
    value = c.value_of(x, *forms)
    if value.scores is not None:
        return replace(value, scores=value.scores.scaled(factor))
    if value.node is None:
        return replace(value, number=value.number * factor)
    if factor == 1:
        return value
    if not 0 < factor < math.inf:
        raise Unsupported(f" by the number {factor}")
    if _completes_softcap(value.node, factor):
        _merge_factors(c, value.node, factor)
        return value
    y = c.emit(model_ops.scale, value.node, shape=value.node.meta["shape"], factor=factor)
    return replace(value, node=y)


def times_known(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.mul(x, known numbers), which must all be the same. Ministral 3 scales q by position, and
    up to the original context by 1.
    """
    a, b = node.args
    if c.values[a].form is Form.KNOWN:  # type: ignore[index]
        a, b = b, a
    numbers = c.value_of(b, Form.KNOWN).known
    if numbers.min() != numbers.max():
        raise Unsupported(" by numbers that differ")
    return scaled(c, a, float(numbers.min()))


def _completes_softcap(node: Node, factor: float) -> bool:
    """Whether node · factor is a softcap that is written with its factors around a tanh."""
    if node.target is not model_ops.softcap or node.users:
        return False
    (inner,) = node.all_input_nodes
    inverse = inner.kwargs.get("factor") if inner.target is model_ops.scale else None
    return isinstance(inverse, float) and math.isclose(inverse * factor, 1, rel_tol=1e-12)


def _merge_factors(c: GraphBuilder, node: Node, factor: float) -> None:
    (inner,) = node.all_input_nodes
    node.args, node.kwargs = inner.args, {"cap": factor}
    if not inner.users:
        c.graph.erase_node(inner)


def tanh(c: GraphBuilder, node: Node) -> ExportedValue:
    """A softcap without its factors: they are numbers, which stand around it."""
    value = c.value_of(node.args[0], Form.ROWS)
    assert value.node is not None
    y = c.emit(model_ops.softcap, value.node, shape=value.node.meta["shape"], cap=1.0)
    return replace(value, node=y)
