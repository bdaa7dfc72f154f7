# SPDX-License-Identifier: Apache-2.0
"""One rule per exported operator: what it becomes, and on which forms of values it is allowed."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.activation_rules import ACTIVATION_RULES, clamp, gate, times_sigmoid
from gsqc.models.capture.attention_rules import ATTENTION_RULES, add_term
from gsqc.models.capture.column_rules import (
    SPLITS,
    cut,
    join,
    part,
    split_columns,
    take_head,
    unbind,
)
from gsqc.models.capture.expert_rules import EXPERT_RULES
from gsqc.models.capture.forms import (
    ExportedValue,
    Form,
    Node,
    Unsupported,
    shape_of,
)
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.layout_rules import (
    CASTS,
    COPIES,
    dropout,
    permute,
    reshape,
    same,
    split,
    transpose,
)
from gsqc.models.capture.linear_rules import addmm, bias, linear, matmul, transposed
from gsqc.models.capture.norm_rules import NORM_RULES, shifted_weight
from gsqc.models.capture.number_rules import divide, scaled, tanh, times_known
from gsqc.models.capture.pooling_rules import POOLING_RULES
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


def _rms_norm(c: GraphBuilder, node: Node) -> ExportedValue:
    arguments: Any = node.args
    x, weight, eps, offset = arguments
    value = c.value_of(x, Form.ROWS, Form.SPLIT, Form.HEADS, Form.JOINED)
    if value.form is Form.SPLIT:  # each head by itself: from here on, heads are an axis
        value = split(c, x)
    assert value.node is not None
    shape = value.node.meta["shape"]
    settings = {"eps": eps, **({"offset": offset} if offset else {})}
    y = c.emit(model_ops.rms_norm, value.node, _parameter(c, weight), shape=shape, **settings)
    return replace(value, node=y)


def _rope_table(c: GraphBuilder, node: Node) -> ExportedValue:
    name: Any = node.args[3]
    return ExportedValue(Form.TABLE, name=name)


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
    *numbers, sinks, causal = node.args[3:]
    given = dict(zip(("scale", "window", "cap"), numbers, strict=True))
    settings = {name: value for name, value in given.items() if value is not None}
    of_heads = [] if sinks is None else [_parameter(c, sinks)]
    settings |= {"sinks": True} if of_heads else {}
    if not causal:
        settings["causal"] = False
        if of_heads:
            raise Unsupported(" both ways, with sinks")
    y = c.emit(model_ops.attention, q, k, v, *of_heads, shape=q.meta["shape"], **settings)
    return ExportedValue(Form.JOINED, y)


def _mul(c: GraphBuilder, node: Node) -> ExportedValue:
    a, b = node.args
    forms = {c.values[x].form for x in node.all_input_nodes}
    if Form.SIGMOID in forms:
        return times_sigmoid(c, node)
    if Form.KNOWN in forms:
        return times_known(c, node)
    for other, factor in ((a, c.number_of(b)), (b, c.number_of(a))):
        if factor is not None:
            return scaled(c, other, factor)
    x, y = (c.node_of(a, Form.ROWS) for a in node.args)
    _same_shape(x, y)
    return gate(c, x, y)


def _add(c: GraphBuilder, node: Node) -> ExportedValue:
    forms = [c.values[a].form if isinstance(a, Node) else None for a in node.args[:2]]
    first = forms[0]
    if Form.SCORES in forms:
        return add_term(c, node)
    if forms == [Form.ROWS, Form.PARAMETER]:
        return bias(c, node)
    if first is Form.POSITIONS:
        return shifted(c, node)
    if first is Form.PARAMETER:
        return shifted_weight(c, node)
    x, y = (c.node_of(a, Form.ROWS) for a in node.args)
    _same_shape(x, y)
    if node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" with alpha")
    return ExportedValue(Form.ROWS, c.emit(model_ops.add, x, y, shape=x.meta["shape"]))


_ALIASES = (aten.dropout.default, aten.view.default, aten.reshape.default, aten.transpose.int)
"""Operators whose result may be in the memory of their operand."""


def _in_place(rule: Rule) -> Rule:
    """The rule of an operator that writes into its operand, which nothing else may read then."""

    def checked(c: GraphBuilder, node: Node) -> ExportedValue:
        written: Any = node.args[0]
        before = node
        while isinstance(written, Node):
            if any(user > before for user in written.users):
                raise Unsupported(" of what others read")
            if written.target not in _ALIASES:
                break
            before, written = node, written.args[0]
        return rule(c, node)

    return checked


def _same_shape(x: Node, y: Node) -> None:
    if x.meta["shape"] != y.meta["shape"]:
        raise Unsupported(" of activations of two shapes")


RULES: dict[Any, Rule] = {
    operator.getitem: part,
    **dict.fromkeys(SPLITS, split_columns),
    aten.slice.Tensor: cut,
    aten.cat.default: join,
    aten.embedding.default: embedding,
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.matmul.default: matmul,
    aten.numpy_T.default: transposed,
    aten.index.Tensor: take_head,
    aten.unbind.int: unbind,
    aten.mul.Tensor: _mul,
    aten.mul_.Tensor: _in_place(_mul),
    aten.div_.Tensor: _in_place(divide),
    aten.tanh.default: tanh,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _in_place(_add),
    aten.clamp_.default: _in_place(clamp),
    **ATTENTION_RULES,
    **EXPERT_RULES,
    **POOLING_RULES,
    custom_ops.rms_norm: _rms_norm,
    custom_ops.rope_table: _rope_table,
    custom_ops.rope: _rope,
    custom_ops.attention: _attention,
    **ACTIVATION_RULES,
    **NORM_RULES,
    aten.dropout.default: dropout,
    aten.transpose.int: transpose,
    aten.permute.default: permute,
    **dict.fromkeys((*COPIES, *CASTS, aten.expand.default), same),
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
