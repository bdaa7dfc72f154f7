# SPDX-License-Identifier: Apache-2.0
"""One rule per exported operator: what it becomes, and on which forms of values it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
import torch.fx

from gsqc import model_ops
from gsqc.capture import custom_ops

if TYPE_CHECKING:
    from gsqc.capture.convert import Converter

Node = torch.fx.Node
Shape = tuple[int, ...]
aten = torch.ops.aten


class Form(Enum):
    """How an exported value [1, …] is held in our graph."""

    ROWS = "activations"  # [T, n], as our [T, n]
    SPLIT = "activations split into heads"  # [T, H, D], as our [T, H·D]
    HEADS = "heads"  # [H, T, D], as ours
    JOINED = "heads, tokens first"  # [T, H, D], as our [H, T, D]
    GATE = "silu of activations"  # [T, n], as our node before the silu
    TABLE = "a rope table"
    TOKENS = "tokens"
    PARAMETER = "a parameter"
    OTHER = "a constant"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Value:
    """An exported value: its form, and our node, if it has one; parameters and tables have a name instead."""

    form: Form
    node: Node | None = None
    name: str = ""


class Unsupported(Exception):
    """The operator has no entry, or is used in a way that has none; the text follows the operator's name."""


Rule = Callable[["Converter", Node], Value]


def _shape(node: Node) -> Shape:
    return tuple(int(d) for d in node.meta["val"].shape)


def _without_batch(shape: Shape, rank: int) -> Shape | None:
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape if len(shape) == rank else None


def _value(c: Converter, arg: Any, *forms: Form) -> Value:
    """The argument's value, which must have one of the forms."""
    if not isinstance(arg, Node):
        raise Unsupported(f" of the number {arg}")
    value = c.values[arg]
    if value.form not in forms:
        raise Unsupported(f" of {value.form.value}")
    return value


def _node(c: Converter, arg: Any, form: Form) -> Node:
    node = _value(c, arg, form).node
    assert node is not None
    return node


def _parameter(c: Converter, arg: Any) -> Node:
    return c.placeholder(name := _value(c, arg, Form.PARAMETER).name, _shape(arg), parameter=name)


def _table(c: Converter, arg: Any) -> Node:
    name = _value(c, arg, Form.TABLE).name
    return c.placeholder(name, c.exported.constants[name].shape, constant=name)


# ----------------------------------------------------------------------------------------------------- computation


def _embedding(c: Converter, node: Node) -> Value:
    _value(c, node.args[1], Form.TOKENS)
    shape = (c.tokens, _shape(node)[-1])
    tokens = c.placeholder("tokens", (c.tokens,))
    return Value(Form.ROWS, c.emit(model_ops.embedding, tokens, _parameter(c, node.args[0]), shape=shape))


def _linear(c: Converter, node: Node) -> Value:
    x, w, *bias = node.args
    if any(b is not None for b in bias):
        raise Unsupported(" with a bias")
    shape = (c.tokens, _shape(node)[-1])
    return Value(Form.ROWS, c.emit(model_ops.linear, _node(c, x, Form.ROWS), _parameter(c, w), shape=shape))


def _rms_norm(c: Converter, node: Node) -> Value:
    x, weight, eps = node.args
    x = _node(c, x, Form.ROWS)
    return Value(Form.ROWS, c.emit(model_ops.rms_norm, x, _parameter(c, weight), shape=x.meta["shape"], eps=eps))


def _rope_table(c: Converter, node: Node) -> Value:
    return Value(Form.TABLE, name="rope_sin" if node.args[3] else "rope_cos")


def _rope(c: Converter, node: Node) -> Value:
    x, cos, sin = node.args
    x = _node(c, x, Form.HEADS)
    tables = _table(c, cos), _table(c, sin)
    if 2 * tables[0].meta["shape"][-1] != x.meta["shape"][-1]:
        raise Unsupported(" on a part of the head")
    return Value(Form.HEADS, c.emit(model_ops.rope, x, *tables, shape=x.meta["shape"]))


def _attention(c: Converter, node: Node) -> Value:
    q, k, v = (_node(c, a, Form.HEADS) for a in node.args[:3])
    if len({n.meta["shape"][-1] for n in (q, k, v)}) != 1:
        raise Unsupported(" with values of another width than keys")
    return Value(Form.JOINED, c.emit(model_ops.attention, q, k, v, shape=q.meta["shape"], scale=node.args[3]))


def _silu(c: Converter, node: Node) -> Value:
    return Value(Form.GATE, _node(c, node.args[0], Form.ROWS))


def _mul(c: Converter, node: Node) -> Value:
    x, y = (_value(c, a, Form.GATE, Form.ROWS) for a in node.args)
    gate, up = (x, y) if x.form is Form.GATE else (y, x)
    if gate.form is not Form.GATE or up.form is not Form.ROWS:
        raise Unsupported(f" of {x.form.value} and {y.form.value}")
    assert gate.node is not None
    assert up.node is not None
    _same_shape(gate.node, up.node)
    return Value(Form.ROWS, c.emit(model_ops.silu_gate, gate.node, up.node, shape=up.node.meta["shape"]))


def _add(c: Converter, node: Node) -> Value:
    x, y = (_node(c, a, Form.ROWS) for a in node.args)
    _same_shape(x, y)
    if node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(" with alpha")
    return Value(Form.ROWS, c.emit(model_ops.add, x, y, shape=x.meta["shape"]))


def _same_shape(x: Node, y: Node) -> None:
    if x.meta["shape"] != y.meta["shape"]:
        raise Unsupported(" of activations of two shapes")


# ---------------------------------------------------------------------------------------------------------- layout


def _same(c: Converter, node: Node) -> Value:
    """An operator that may change nothing: a copy, a slice of everything, a cast between float types."""
    source = node.args[0]
    assert isinstance(source, Node)
    before, after = source.meta["val"], node.meta["val"]
    if before.shape != after.shape or before.is_floating_point() != after.is_floating_point():
        raise Unsupported(f" from {before.dtype}{list(before.shape)} to {after.dtype}{list(after.shape)}")
    return c.values[source]


def _dropout(c: Converter, node: Node) -> Value:
    _, probability, training = node.args
    if training and probability:
        raise Unsupported(" while training")
    return _same(c, node)


def _reshape(c: Converter, node: Node) -> Value:
    """Splitting the last axis into heads, merging heads, or adding and removing the batch dimension."""
    assert isinstance(node.args[0], Node)
    value, shape = c.values[node.args[0]], _shape(node)
    if value.form in (Form.TOKENS, Form.PARAMETER, Form.OTHER, Form.TABLE):
        raise Unsupported(f" of {value.form.value}")
    assert value.node is not None
    ours = value.node.meta["shape"]
    if value.form in (Form.ROWS, Form.GATE):
        if _without_batch(shape, 2) == ours:
            return value
        split = _without_batch(shape, 3)
        if value.form is Form.ROWS and split and split[0] == c.tokens and split[1] * split[2] == ours[1]:
            return replace(value, form=Form.SPLIT)
    elif _without_batch(shape, 3) == _without_batch(_shape(node.args[0]), 3):
        return value
    elif value.form is Form.SPLIT and _without_batch(shape, 2) == ours:
        return replace(value, form=Form.ROWS)
    elif value.form is Form.JOINED and _without_batch(shape, 2) == (ours[1], ours[0] * ours[2]):
        merged = (ours[1], ours[0] * ours[2])
        return Value(Form.ROWS, c.emit(model_ops.merge_heads, value.node, shape=merged))
    raise Unsupported(f" of {value.form.value} to {list(shape)}")


def _swap(c: Converter, node: Node, axes: set[int]) -> Value:
    """Tokens and heads change places."""
    source = node.args[0]
    assert isinstance(source, Node)
    rank = len(_shape(source))
    value = _value(c, source, Form.SPLIT, Form.HEADS, Form.JOINED)
    if axes != {rank - 3, rank - 2}:
        raise Unsupported(f" of axes {sorted(axes)} of {value.form.value}")
    if value.form is not Form.SPLIT:
        return replace(value, form=Form.JOINED if value.form is Form.HEADS else Form.HEADS)
    assert value.node is not None
    tokens, heads, width = _shape(source)[-3:]
    shape = (heads, tokens, width)
    return Value(Form.HEADS, c.emit(model_ops.split_heads, value.node, shape=shape, heads=heads))


def _transpose(c: Converter, node: Node) -> Value:
    rank = len(_shape(node))
    return _swap(c, node, {a % rank for a in node.args[1:]})  # type: ignore[operator]


def _permute(c: Converter, node: Node) -> Value:
    order = node.args[1]
    moved = {k for k, axis in enumerate(order) if axis % len(order) != k}  # type: ignore[arg-type,operator,union-attr]
    return _swap(c, node, moved) if moved else _same(c, node)


RULES: dict[Any, Rule] = {
    aten.embedding.default: _embedding,
    aten.linear.default: _linear,
    aten.silu.default: _silu,
    aten.mul.Tensor: _mul,
    aten.add.Tensor: _add,
    custom_ops.rms_norm: _rms_norm,
    custom_ops.rope_table: _rope_table,
    custom_ops.rope: _rope,
    custom_ops.attention: _attention,
    aten.dropout.default: _dropout,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    **dict.fromkeys(
        (
            aten.alias.default,
            aten.clone.default,
            aten.contiguous.default,
            aten.detach.default,
            aten.expand.default,
            aten.slice.Tensor,
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.to.device,
            aten._to_copy.default,
        ),
        _same,
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
        _reshape,
    ),
}
"""What each operator of the training IR becomes; an operator without an entry is not supported."""
