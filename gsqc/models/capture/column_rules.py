# SPDX-License-Identifier: Apache-2.0
"""Rules for parts of columns: q, k and v of a fused projection, and the rotated part of a head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gsqc.models import model_ops
from gsqc.models.capture.expert_rules import chosen_part
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.layout_rules import same

aten = torch.ops.aten

SPLITS = (
    aten.chunk.default,
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
)
"""Operators with a result for each part of an axis."""


def _require_columns(rank: int, axis: Any) -> None:
    if axis % rank != rank - 1:
        raise Unsupported(f" of axis {axis}")


def _columns(c: GraphBuilder, value: ExportedValue, start: int, count: int) -> ExportedValue:
    if value.form not in (Form.ROWS, Form.HEADS):
        raise Unsupported(f" of {value.form.value}")
    assert value.node is not None
    shape = (*value.node.meta["shape"][:-1], count)
    made = c.emit(model_ops.columns, value.node, shape=shape, start=start, count=count)
    return ExportedValue(value.form, made)


def cut(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.slice(x, axis=0, start=None, end=None, step=1): all of an axis, or some columns."""
    arguments: Any = (*node.args, *(None, 0, 0, None, 1)[len(node.args) :])
    source, axis, start, _, step = arguments
    before, after = shape_of(source), shape_of(node)
    if before == after:
        return same(c, node)
    if step != 1:
        raise Unsupported(f" in steps of {step}")
    if c.values[source].form is Form.SPLIT and axis % len(before) == len(before) - 2:
        first = start + before[-2] if (start or 0) < 0 else start or 0
        return _heads(c, c.values[source], first, after[-2:])
    _require_columns(len(before), axis)
    first = start or 0
    first = max(first + before[-1], 0) if first < 0 else first
    return _columns(c, c.values[source], first, after[-1])


def _heads(
    c: GraphBuilder, value: ExportedValue, first: int, part: tuple[int, ...]
) -> ExportedValue:
    """Some of the heads of activations that were split into heads: `part` is how many, and their
    width.
    """
    heads, width = part
    rows = ExportedValue(Form.ROWS, value.node)
    return replace(_columns(c, rows, first * width, heads * width), form=Form.SPLIT)


def take_head(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.index(x, [None, …, [number]]): one head of activations that were split into heads."""
    arguments: Any = node.args
    source, (*before, index) = arguments
    number = c.number_of(index)
    heads = shape_of(source)[-2]
    if any(i is not None for i in before) or len(before) != len(shape_of(source)) - 2:
        raise Unsupported(" of several axes")
    if number is None:
        raise Unsupported(" of what is not a number")
    c.value_of(source, Form.SPLIT)
    return _heads(c, c.values[source], int(number) % heads, (1, shape_of(source)[-1]))


def select(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.select(x, axis, index): q, k or v of a fused projection, viewed as [T, A, B, D]."""
    source, axis, index = node.args
    assert isinstance(axis, int) and isinstance(index, int)
    return _of_grid(c, source, axis, index)


def _of_grid(c: GraphBuilder, source: Any, axis: int, index: int) -> ExportedValue:
    value, shape = c.value_of(source, Form.GRID), shape_of(source)
    first, second, width = shape[-3:]
    axis, rank = axis % len(shape), len(shape)
    index %= shape[axis]
    if axis == rank - 3:  # all heads of q, then all of k
        return _heads(c, value, index * second, (second, width))
    if axis != rank - 2:
        raise Unsupported(f" of axis {axis}")
    assert value.node is not None
    heads = (first, c.tokens, second * width)
    y = c.emit(model_ops.split_heads, value.node, shape=heads, heads=first)
    return replace(
        _columns(c, ExportedValue(Form.HEADS, y), index * width, width), form=Form.JOINED
    )


def unbind(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.unbind(x, axis=0), of a grid. It stands for all results: `part` takes one."""
    return c.value_of(node.args[0], Form.GRID)


def split_columns(c: GraphBuilder, node: Node) -> ExportedValue:
    """One of SPLITS, of columns. It stands for all of them: `part` takes one."""
    source = node.args[0]
    assert isinstance(source, Node)
    axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    _require_columns(len(shape_of(source)), axis)
    return c.values[source]


def part(c: GraphBuilder, node: Node) -> ExportedValue:
    """operator.getitem(parts, index): one result of several."""
    source, index = node.args
    assert isinstance(source, Node)
    if source.target is aten.topk.default:
        return chosen_part(c, node)
    if source.target is aten.unbind.int:
        grid, axis = (*source.args, 0)[:2]
        assert isinstance(axis, int) and isinstance(index, int)
        return _of_grid(c, grid, axis, index)
    if source.target not in SPLITS:
        raise Unsupported(f" {index} of {source}")
    widths = [int(t.shape[-1]) for t in source.meta["val"]]
    assert isinstance(index, int)
    return _columns(c, c.values[source], sum(widths[:index]), widths[index])


def join(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.cat((rope(x's first columns), x's other columns), -1) is the rope of a part of x."""
    parts: Any = node.args[0]
    axis = node.args[1] if len(node.args) > 1 else 0
    _require_columns(len(shape_of(node)), axis)
    rotated, *rest = (c.node_of(p, Form.HEADS) for p in parts)
    if rotated.target not in (model_ops.rope, model_ops.rope_pairs):
        raise Unsupported(" of heads that are not rotated")
    first, *tables = rotated.args
    assert isinstance(first, Node)
    source: Any = first.args[0]
    pieces = [first, *rest]
    width = 0
    for piece in pieces:
        if piece.target is not model_ops.columns or piece.args[0] is not source:
            raise Unsupported(" of parts of different heads")
        if piece.kwargs["start"] != width:
            raise Unsupported(" of parts in another order")
        width += piece.meta["shape"][-1]
    if width != source.meta["shape"][-1]:
        raise Unsupported(" of some parts of heads")
    function: Any = rotated.target
    operands: Any = (source, *tables)
    return ExportedValue(Form.HEADS, c.emit(function, *operands, shape=source.meta["shape"]))
