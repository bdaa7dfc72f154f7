# SPDX-License-Identifier: Apache-2.0
"""Rules for operators that move numbers. Most change a value's form only, and make no call."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.forms import (
    ExportedValue,
    Form,
    Node,
    Unsupported,
    shape_of,
    without_batch,
)
from gsqc.models.capture.graph_builder import GraphBuilder

aten = torch.ops.aten
COPIES = (
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.lift_fresh_copy.default,
)
CASTS = (aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten._to_copy.default)


def same(c: GraphBuilder, node: Node) -> ExportedValue:
    """An operator that may change nothing: a copy, a slice of everything, a cast between float
    types.
    """
    source = node.args[0]
    assert isinstance(source, Node)
    before, after = source.meta["val"], node.meta["val"]
    if c.values[source].form is Form.NUMBER and after.is_floating_point():
        return c.values[source]
    if before.shape != after.shape or before.is_floating_point() != after.is_floating_point():
        raise Unsupported(
            f" from {before.dtype}{list(before.shape)} to {after.dtype}{list(after.shape)}"
        )
    return c.values[source]


def dropout(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.dropout(x, probability, training)."""
    _, probability, training = node.args
    if training and probability:
        raise Unsupported(" while training")
    return same(c, node)


def reshape(c: GraphBuilder, node: Node) -> ExportedValue:
    """Splitting the last axis into heads, merging heads, or adding and removing the batch
    dimension.
    """
    assert isinstance(node.args[0], Node)
    value, shape = c.values[node.args[0]], shape_of(node)
    if value.form in (Form.TOKENS, Form.POSITIONS) and without_batch(shape, 1) == (c.tokens,):
        return value
    if value.form in (Form.SCORES, Form.PROBABILITIES):
        if without_batch(shape, 3) != without_batch(shape_of(node.args[0]), 3):
            raise Unsupported(f" of {value.form.value} to {list(shape)}")
        return value
    if value.form not in (Form.ROWS, Form.SPLIT, Form.HEADS, Form.JOINED):
        raise Unsupported(f" of {value.form.value}")
    assert value.node is not None
    ours = value.node.meta["shape"]
    if value.form is Form.ROWS:
        return _rows_as(c, value, shape)
    if without_batch(shape, 3) == without_batch(shape_of(node.args[0]), 3):
        return value
    elif value.form is Form.SPLIT and without_batch(shape, 2) == ours:
        return replace(value, form=Form.ROWS)
    elif value.form is Form.JOINED and without_batch(shape, 2) == (ours[1], ours[0] * ours[2]):
        merged = (ours[1], ours[0] * ours[2])
        return ExportedValue(Form.ROWS, c.emit(model_ops.merge_heads, value.node, shape=merged))
    elif value.form is Form.HEADS and ours[0] == 1 and without_batch(shape, 3):
        split = without_batch(shape, 3)
        if split and split[0] == c.tokens and split[1] * split[2] == ours[2]:
            y = c.emit(model_ops.merge_heads, value.node, shape=ours[1:])
            return ExportedValue(Form.SPLIT, y)
    raise Unsupported(f" of {value.form.value} to {list(shape)}")


def _rows_as(c: GraphBuilder, value: ExportedValue, shape: tuple[int, ...]) -> ExportedValue:
    """Activations as heads, as a grid of parts of heads, or as they were."""
    assert value.node is not None
    ours = value.node.meta["shape"]
    if without_batch(shape, 2) == ours:
        return value
    split = without_batch(shape, 3)
    if split and split[0] == c.tokens and split[1] * split[2] == ours[1]:
        return replace(value, form=Form.SPLIT)
    if without_batch(shape, 3) == (1, *ours):  # one head
        y = c.emit(model_ops.split_heads, value.node, shape=(1, *ours), heads=1)
        return ExportedValue(Form.HEADS, y)
    grid = without_batch(shape, 4)
    if grid and grid[0] == c.tokens and math.prod(grid[1:]) == ours[1]:
        return replace(value, form=Form.GRID)
    raise Unsupported(f" of {value.form.value} to {list(shape)}")


def _swap(c: GraphBuilder, node: Node, axes: set[int]) -> ExportedValue:
    """Tokens and heads change places."""
    source = node.args[0]
    assert isinstance(source, Node)
    rank = len(shape_of(source))
    value = c.value_of(source, Form.SPLIT, Form.HEADS, Form.JOINED, Form.KEYS)
    if axes == {rank - 2, rank - 1} and value.form in (Form.HEADS, Form.KEYS):
        return replace(value, form=Form.KEYS if value.form is Form.HEADS else Form.HEADS)
    if value.form is Form.KEYS or axes != {rank - 3, rank - 2}:
        raise Unsupported(f" of axes {sorted(axes)} of {value.form.value}")
    if value.form is not Form.SPLIT:
        return replace(value, form=Form.JOINED if value.form is Form.HEADS else Form.HEADS)
    return replace(split(c, source), form=Form.HEADS)


def split(c: GraphBuilder, source: Node) -> ExportedValue:
    """Activations that were split into heads [T, H, D], as heads that stand tokens first."""
    tokens, heads, width = shape_of(source)[-3:]
    rows = c.node_of(source, Form.SPLIT)
    y = c.emit(model_ops.split_heads, rows, shape=(heads, tokens, width), heads=heads)
    return ExportedValue(Form.JOINED, y)


def transpose(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.transpose.int(x, axis, axis)."""
    rank = len(shape_of(node))
    axes: tuple[Any, ...] = node.args[1:]
    return _swap(c, node, {axis % rank for axis in axes})


def permute(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.permute(x, order)."""
    order: Any = node.args[1]
    moved = {k for k, axis in enumerate(order) if axis % len(order) != k}
    return _swap(c, node, moved) if moved else same(c, node)
