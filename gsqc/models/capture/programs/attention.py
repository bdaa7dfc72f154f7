# SPDX-License-Identifier: Apache-2.0
"""Attention of a traced graph: softmax(scale · q · kᵀ + mask) · v, in the forms in which exporters
write it.

Queries, keys and values are found behind everything that only moves, repeats or scales numbers.
The mask is a constant, and its numbers are looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gsqc.models.capture.programs.masks import VIEWS, behind, masks, window
from gsqc.models.capture.programs.regions import regions
from gsqc.models.capture.programs.tracer import Node, Tracer, aten
from gsqc.models.capture.recognise import random_numbers

_PRODUCTS = (aten.matmul.default, aten.bmm.default)
_SOFTMAX = (aten.softmax.int, aten._softmax.default)
_MOVES = {
    *VIEWS,
    *(aten.permute.default, aten.slice.Tensor, aten.cat.default),
    *(aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar),
}
_FACTORS = (aten.mul.Tensor, aten.mul.Scalar)


class Operand(NamedTuple):
    """Heads [1, G, T, D], or [1, T, G, D] if tokens stand first."""

    node: Node
    tokens_first: bool


class Found(NamedTuple):
    """The operands of `custom_ops.attention`."""

    q: Operand
    k: Operand
    v: Operand
    scale: float
    window: int | None
    softcap: float | None


def attention(tracer: Tracer, node: Node) -> Found | None:
    """What a product with values computes, if that is attention. ModelError if it is not causal."""
    if node.target is aten.scaled_dot_product_attention.default:
        return _fused(tracer, node)
    weights, values = node.args[:2]
    softmax = behind(weights, _is_guard)
    if softmax is None or softmax.target not in _SOFTMAX:
        return None
    scores, hidden = masks(tracer, softmax.args[0])
    product, factor, cap = _factors(scores)
    if product is None or product.target not in _PRODUCTS:
        return None
    left, right = product.args[:2]
    return _found(tracer, node, (left, right, values), factor, hidden, cap, transposed=True)


def _fused(tracer: Tracer, node: Node) -> Found | None:
    names = ("q", "k", "v", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    q, k, v = (given[name] for name in "qkv")
    found: list[Tensor] = []
    if given.get("is_causal"):
        found.append(torch.ones(tracer.tokens, tracer.tokens, dtype=torch.bool).tril())
    if (mask := given.get("attn_mask")) is not None:
        if mask not in tracer.placed:
            return None
        found.append(tracer.placed[mask])
    width = q.meta["val"].shape[-1]
    scale = given.get("scale")
    scale = width**-0.5 if scale is None else float(scale)
    return _found(tracer, node, (q, k, v), scale, found, None, transposed=False)


def _found(
    tracer: Tracer,
    node: Node,
    operands: tuple[Any, Any, Any],
    scale: float,
    hidden: list[Tensor],
    cap: float | None,
    *,
    transposed: bool,
) -> Found | None:
    heads = node.meta["val"].shape.numel() // node.meta["val"].shape[-1] // tracer.tokens
    found: list[tuple[Operand, float]] = []
    for place, operand in enumerate(operands):
        source = _heads(tracer, operand, heads, transposed=transposed and place == 1)
        if source is None:
            return None
        found.append(source)
    (q, a), (k, b), (v, c) = found
    if c != 1:
        return None
    scale *= a * b
    width = q.node.meta["val"].shape[-1]
    # Exporters write two square roots in float32, and the factor once for each side.
    if abs(scale / width**-0.5 - 1) < 1e-6:
        scale = width**-0.5
    return Found(q, k, v, scale, window(tracer, node, hidden), cap)


def _is_guard(node: Node) -> Any:
    """The probabilities in where(none is visible, 0, probabilities): a token sees itself."""
    if node.target is aten.where.self:
        return next((a for a in node.args[1:] if getattr(a, "target", None) in _SOFTMAX), None)
    return None


def _factors(scores: Any) -> tuple[Node | None, float, float | None]:
    """The product behind scores, its factor, and the softcap between."""
    factor, is_capped = 1.0, False
    cap: float | None = None

    def number(node: Node) -> Any:
        nonlocal factor, cap, is_capped
        if node.target is aten.tanh.default and not is_capped:
            cap, factor, is_capped = factor, 1.0, True
            return node.args[0]
        found = factor_of(node)
        if found is None:
            return None
        factor *= found[1]
        return found[0]

    return behind(scores, number), factor * (cap or 1.0), cap


def factor_of(node: Node) -> tuple[Node, float] | None:
    """x and f of x · f or x / (1/f), for a number f."""
    if node.target in _FACTORS:
        for x, f in (node.args[:2], node.args[1::-1]):
            if isinstance(x, Node) and isinstance(f, int | float):
                return x, float(f)
    if node.target in (aten.div.Tensor, aten.div.Scalar):
        x, f = node.args[:2]
        if isinstance(x, Node) and isinstance(f, int | float) and f:
            return x, 1 / f
    return None


def _heads(
    tracer: Tracer, operand: Any, heads: int, *, transposed: bool
) -> tuple[Operand, float] | None:
    """The heads that an operand of H heads repeats, and the factor that it puts on them. They are
    the farthest ones.
    """
    if not isinstance(operand, Node):
        return None
    shape = operand.meta["val"].shape
    best: tuple[Operand, float] | None = None
    if not transposed and len(shape) == 4 and shape[:2] == (1, heads):
        best = Operand(operand, tokens_first=False), 1.0
    for region in regions(tracer, operand, lambda n: n.target in _MOVES):
        source = region.source.meta["val"].shape
        for tokens_first in (False, True):
            if tokens_first and best is not None:  # they are turned later on
                continue
            if len(source) != 4 or source[0] != 1:
                continue
            tokens, count = source[1:3] if tokens_first else source[2:0:-1]
            if tokens != tracer.tokens or heads % count:
                continue
            x = random_numbers(*source)
            parts = x[0].transpose(0, 1) if tokens_first else x[0]
            factor = _factor(region(x), parts.repeat_interleave(heads // count, 0), transposed)
            if factor is not None:
                best = Operand(region.source, tokens_first), factor
    return best


def _factor(y: Tensor | None, expected: Tensor, transposed: bool) -> float | None:
    """The number by which y is the expected heads [H, T, D], None if it is something else."""
    if y is None or y.numel() != expected.numel():
        return None
    y = y.reshape(len(expected), *y.shape[-2:])
    y = y.transpose(1, 2) if transposed else y
    factor = float(y.flatten()[0] / expected.flatten()[0])
    same = y.shape == expected.shape and torch.allclose(y, expected * factor, 1e-6, 0)
    return factor if same else None
