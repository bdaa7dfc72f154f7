# SPDX-License-Identifier: Apache-2.0
"""The pattern of rotary embedding: told by what it makes of a few heads, its tables read off."""

from __future__ import annotations

import torch
from torch import Tensor

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.programs.masks import VIEWS
from gsqc.models.capture.programs.regions import Region, regions
from gsqc.models.capture.programs.rewriter import ELEMENTWISE, Rewriter, of
from gsqc.models.capture.programs.tracer import Node, aten
from gsqc.models.capture.recognise import close, random_numbers

_MOVES = (
    *(*VIEWS, aten.permute.default, aten.slice.Tensor, aten.select.int),
    *(aten.cat.default, aten.stack.default, aten.flatten.using_ints),
)


def rope(r: Rewriter, node: Node) -> Node | None:
    """Rotary embedding of heads [1, H, T, D], or of tokens [1, T, H, D]."""
    for region in regions(r.tracer, node, of(ELEMENTWISE, _MOVES)):
        shape = region.source.meta["val"].shape
        if len(shape) != 4 or shape != node.meta["val"].shape or shape[-1] % 2:
            continue
        if not any(c.numel() >= r.tracer.tokens * shape[-1] // 2 for c in region.constants()):
            continue
        for axis in (2, 1):
            if shape[axis] == r.tracer.tokens and (found := _rotation(region, axis)) is not None:
                return _rotated(r, region, axis, *found)
    return None


def _rotation(region: Region, axis: int) -> tuple[Tensor, Tensor, bool] | None:
    """cos and sin [T, D/2] of a region, and whether it rotates pairs. None if it does not."""
    shape = region.source.meta["val"].shape
    width = shape[-1]
    places = torch.arange(width)
    orders = {False: places, True: torch.cat([places[0::2], places[1::2]])}
    x = random_numbers(*shape)

    def heads(t: Tensor) -> Tensor:
        return t[0] if axis == 2 else t[0].transpose(0, 1)

    for is_pairs, order in orders.items():
        ones = torch.zeros(shape)
        ones[..., order[: width // 2]] = 1
        tables, y = region(ones), region(x)
        if tables is None or y is None:
            return None
        cos, sin = heads(tables)[0][:, order].chunk(2, -1)
        rotate = model_ops.rope_pairs if is_pairs else model_ops.rope
        if close(heads(y), rotate(heads(x), cos, sin), 1e-5):
            return cos.clone(), sin.clone(), is_pairs
    return None


def _rotated(r: Rewriter, region: Region, axis: int, cos: Tensor, sin: Tensor, pairs: bool) -> Node:
    node, x = region.result, region.source
    tokens, width = r.tracer.tokens, 2 * cos.shape[-1]
    tables = [
        r.before(node, custom_ops.rope_table, x, tokens, width, r.table(name, numbers))
        for name, numbers in (("rope_cos", cos), ("rope_sin", sin))
    ]
    if axis == 1:
        x = r.before(node, aten.transpose.int, x, 1, 2)
    y = r.before(node, custom_ops.rope, x, *tables, pairs)
    return y if axis == 2 else r.before(node, aten.transpose.int, y, 1, 2)
