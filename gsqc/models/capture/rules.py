# SPDX-License-Identifier: Apache-2.0
"""One rule per exported operator: what it becomes, and on which forms of values it is allowed."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.activation_rules import ACTIVATION_RULES, gate
from gsqc.models.capture.column_rules import SPLITS, cut, join, part, split
from gsqc.models.capture.forms import (
    ExportedValue,
    Form,
    Node,
    Unsupported,
    shape_of,
)
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.layout_rules import dropout, permute, reshape, same, transpose
from gsqc.models.capture.norm_rules import NORM_RULES
from gsqc.models.capture.position_rules import embedding, shifted

aten = torch.ops.aten
Rule = Callable[[GraphBuilder, Node], ExportedValue]


def _parameter(c: GraphBuilder, arg: Any) -> Node:
    return c.placeholder(
        name := c.value_of(arg, Form.PARAMETER).name, shape_of(arg), parameter=name
    )


def _table(c: GraphBuilder, arg: Any) -> Node:
    name = c.value_of(arg, Form.TABLE).name
    return c.placeholder(name, c.exported.constants[name].shape, constant=name)


def _linear(c: GraphBuilder, node: Node) -> ExportedValue:
    x, w, *bias = node.args
    if any(b is not None for b in bias):
        raise Unsupported(" with a bias")
    shape = (c.tokens, shape_of(node)[-1])
    return ExportedValue(
        Form.ROWS, c.emit(model_ops.linear, c.node_of(x, Form.ROWS), _parameter(c, w), shape=shape)
    )


def _rms_norm(c: GraphBuilder, node: Node) -> ExportedValue:
    x, weight, eps = node.args
    x = c.node_of(x, Form.ROWS)
    return ExportedValue(
        Form.ROWS,
        c.emit(model_ops.rms_norm, x, _parameter(c, weight), shape=x.meta["shape"], eps=eps),
    )


def _rope_table(c: GraphBuilder, node: Node) -> ExportedValue:
    return ExportedValue(Form.TABLE, name="rope_sin" if node.args[3] else "rope_cos")


def _rope(c: GraphBuilder, node: Node) -> ExportedValue:
    x, cos, sin, pairs = node.args
    x = c.node_of(x, Form.HEADS)
    tables = _table(c, cos), _table(c, sin)
    if 2 * tables[0].meta["shape"][-1] > x.meta["shape"][-1]:
        raise Unsupported(" with tables wider than the head")
    function = model_ops.rope_pairs if pairs else model_ops.rope
    return ExportedValue(Form.HEADS, c.emit(function, x, *tables, shape=x.meta["shape"]))


def _attention(c: GraphBuilder, node: Node) -> ExportedValue:
    q, k, v = (c.node_of(a, Form.HEADS) for a in node.args[:3])
    if len({n.meta["shape"][-1] for n in (q, k, v)}) != 1:
        raise Unsupported(" with values of another width than keys")
    return ExportedValue(
        Form.JOINED, c.emit(model_ops.attention, q, k, v, shape=q.meta["shape"], scale=node.args[3])
    )


def _mul(c: GraphBuilder, node: Node) -> ExportedValue:
    x, y = (c.node_of(a, Form.ROWS) for a in node.args)
    _same_shape(x, y)
    return gate(c, x, y)


def _add(c: GraphBuilder, node: Node) -> ExportedValue:
    if isinstance(node.args[0], Node) and c.values[node.args[0]].form is Form.POSITIONS:
        return shifted(c, node)
    x, y = (c.node_of(a, Form.ROWS) for a in node.args)
    _same_shape(x, y)
    if node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" with alpha")
    return ExportedValue(Form.ROWS, c.emit(model_ops.add, x, y, shape=x.meta["shape"]))


def _same_shape(x: Node, y: Node) -> None:
    if x.meta["shape"] != y.meta["shape"]:
        raise Unsupported(" of activations of two shapes")


RULES: dict[Any, Rule] = {
    operator.getitem: part,
    **dict.fromkeys(SPLITS, split),
    aten.slice.Tensor: cut,
    aten.cat.default: join,
    aten.embedding.default: embedding,
    aten.linear.default: _linear,
    aten.mul.Tensor: _mul,
    aten.add.Tensor: _add,
    custom_ops.rms_norm: _rms_norm,
    custom_ops.rope_table: _rope_table,
    custom_ops.rope: _rope,
    custom_ops.attention: _attention,
    **ACTIVATION_RULES,
    **NORM_RULES,
    aten.dropout.default: dropout,
    aten.transpose.int: transpose,
    aten.permute.default: permute,
    **dict.fromkeys(
        (
            aten.alias.default,
            aten.clone.default,
            aten.contiguous.default,
            aten.detach.default,
            aten.expand.default,
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.to.device,
            aten._to_copy.default,
        ),
        same,
    ),
    **dict.fromkeys(
        (
            aten.view.default,
            aten.reshape.default,
            aten._unsafe_view.default,
            aten.unsqueeze.default,
            aten.squeeze.dim,
            aten.flatten.using_ints,
            aten.unflatten.int,
        ),
        reshape,
    ),
}
"""What each operator of the training IR becomes; an operator without an entry is not supported."""
