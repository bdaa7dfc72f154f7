# SPDX-License-Identifier: Apache-2.0
"""Rules of ONNX's operators that move numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.tracer import Node, Value, aten

_END = sys.maxsize


def axes_of(s: Scope, node: Any, place: int) -> list[int] | None:
    """Axes, which are an attribute in older versions and an operand in newer ones."""
    given = s.inputs(node, place + 1)[place]
    return s.attribute(node, "axes") if given is None else s.integers(given)


def _shape(s: Scope, node: Any) -> Value:
    shape = s.shape(s.inputs(node, 1)[0])
    start, end = s.attribute(node, "start", 0), s.attribute(node, "end", len(shape))
    return torch.tensor(shape[start:end], dtype=torch.int64)


def _gather(s: Scope, node: Any) -> Value:
    data, indices = s.inputs(node, 2)[:2]
    axis = s.attribute(node, "axis", 0)
    if axis == 0 and isinstance(data, Tensor) and data.ndim == 2 and data.is_floating_point():
        return s.tracer.embedding(data, indices)
    if isinstance(indices, Node):
        raise s.tracer.refused("tokens are places in what is no table")
    axis %= max(len(s.shape(data)), 1)
    size = s.shape(data)[axis]
    indices = torch.where(indices < 0, indices + size, indices)
    if indices.ndim == 0:
        return s.call(aten.select.int, data, axis, int(indices))
    shape = s.shape(data)
    found = s.call(aten.index_select.default, data, axis, indices.reshape(-1))
    return s.call(aten.reshape.default, found, [*shape[:axis], *indices.shape, *shape[axis + 1 :]])


def _gather_nd(s: Scope, node: Any) -> Value:
    data, indices = s.inputs(node, 2)[:2]
    if isinstance(data, Node) or isinstance(indices, Node) or s.attribute(node, "batch_dims", 0):
        raise s.tracer.refused("elements are picked by place")
    return s.call(aten.index.Tensor, data, list(indices.unbind(-1)))


def _unsqueeze(s: Scope, node: Any) -> Value:
    x = s.inputs(node, 1)[0]
    axes = axes_of(s, node, 1) or []
    rank = len(s.shape(x)) + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = s.call(aten.unsqueeze.default, x, axis)
    return x


def _squeeze(s: Scope, node: Any) -> Value:
    x, axes = s.inputs(node, 1)[0], axes_of(s, node, 1)
    shape = s.shape(x)
    found = [k for k, n in enumerate(shape) if n == 1] if axes is None else axes
    for axis in sorted((a % len(shape) for a in found), reverse=True):
        x = s.call(aten.squeeze.dim, x, axis)
    return x


def _reshape(s: Scope, node: Any) -> Value:
    x, wanted = s.inputs(node, 2)[:2]
    before = s.shape(x)
    keeps = not s.attribute(node, "allowzero", 0)
    sizes = s.integers(wanted)
    if keeps and any(size == 0 and k >= len(before) for k, size in enumerate(sizes)):
        raise s.tracer.refused("a size is taken from an axis that is not there")
    shape = [before[k] if size == 0 and keeps else size for k, size in enumerate(sizes)]
    return s.call(aten.reshape.default, x, shape)


def _flatten(s: Scope, node: Any) -> Value:
    x = s.inputs(node, 1)[0]
    shape, axis = s.shape(x), s.attribute(node, "axis", 1)
    first = torch.Size(shape[:axis]).numel()
    return s.call(aten.reshape.default, x, [first, torch.Size(shape[axis:]).numel()])


def _transpose(s: Scope, node: Any) -> Value:
    x = s.inputs(node, 1)[0]
    order = s.attribute(node, "perm") or list(range(len(s.shape(x))))[::-1]
    return s.call(aten.permute.default, x, order)


def _concat(s: Scope, node: Any) -> Value:
    return s.call(aten.cat.default, s.inputs(node), s.attribute(node, "axis", 0))


def _cut(s: Scope, node: Any) -> Value:
    x, *given = s.inputs(node, 5)[:5]
    starts, ends = (s.integers(v) for v in given[:2])
    axes = s.integers(given[2]) if given[2] is not None else list(range(len(starts)))
    steps = s.integers(given[3]) if given[3] is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step <= 0:
            raise s.tracer.refused(f"a slice in steps of {step}")
        x = s.call(aten.slice.Tensor, x, axis, start, min(end, _END), step)
    return x


def _split(s: Scope, node: Any) -> Value:
    x, given = s.inputs(node, 2)[:2]
    axis = s.attribute(node, "axis", 0) % len(s.shape(x))
    count, whole = len(node.output), s.shape(x)[axis]
    sizes = s.integers(given) if given is not None else s.attribute(node, "split")
    sizes = sizes or [-(-whole // count)] * count
    return tuple(s.tracer.split(x, axis, sizes))


def _expand(s: Scope, node: Any) -> Value:
    x, wanted = s.inputs(node, 2)[:2]
    broadcast: Any = torch.broadcast_shapes
    shape = broadcast(s.shape(x), s.integers(wanted))
    return s.call(aten.expand.default, x, list(shape))


MOVES: dict[str, Callable[[Scope, Any], Any]] = {
    "Shape": _shape, "Gather": _gather, "GatherND": _gather_nd, "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze, "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose,
    "Concat": _concat, "Slice": _cut, "Split": _split, "Expand": _expand,
}  # fmt: skip
"""Operators that move numbers."""
