# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary embedding, activations and biases of a traced graph, as single operators.

before:  s = aten.mul(x, aten.rsqrt(aten.add(aten.mean(aten.pow(x, 2)), eps)))   y = aten.mul(w, s)
after:   y = gsqc.rms_norm(x, w, eps, 0)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.programs.attention import attention
from gsqc.models.capture.programs.regions import Region, regions
from gsqc.models.capture.programs.rewriter import ELEMENTWISE, Pattern, Rewriter, of
from gsqc.models.capture.programs.rope import rope
from gsqc.models.capture.programs.shapes import decimal
from gsqc.models.capture.programs.tracer import Node, Tracer, aten
from gsqc.models.capture.recognise import close, gelu_of, random_numbers

_CURVES = (aten.sigmoid.default, aten.tanh.default, aten.erf.default, aten.exp.default)
_MEANS = (aten.mean.dim, aten.sum.dim_IntList)
_NORMS = (aten.layer_norm.default,)


def _norm(r: Rewriter, node: Node) -> Node | None:
    """RMS norm or LayerNorm, with its weight and its bias if this is all of it."""
    allowed = of(ELEMENTWISE, _MEANS, _NORMS)
    for region in regions(r.tracer, node, allowed):
        source = region.source
        if source.meta["val"].shape != node.meta["val"].shape:
            continue
        if region.has(*_MEANS, *_NORMS) and (made := _normof(r, region)) is not None:
            return made
    return None


def _normof(r: Rewriter, region: Region) -> Node | None:
    node, source = region.result, region.source
    shape = source.meta["val"].shape
    width = shape[-1]
    vectors = [c for c in region.constants() if c.numel() == width]
    inner = [n.args[4] for n in region.members if n.target in _NORMS and len(n.args) > 4]
    for eps in {e for e in (*region.numbers(), *inner) if isinstance(e, float) and 0 < e < 1}:
        x = (random_numbers(*(1 if k == 0 else 2 for k in range(len(shape) - 1)), width) + 1) * (
            eps**0.5
        )
        y = region(x)
        for affine in _affine(vectors):
            if affine and close(y, model_ops.rms_norm(x, affine[0], eps=eps)) and not affine[1:]:
                return r.inserted(
                    node, partial(Tracer.rms_norm, x=source, weight=affine[0], eps=decimal(eps))
                )
            if close(y, model_ops.layer_norm(x, *affine, eps=eps)):
                given = (*affine, None, None)[:2]
                return r.before(
                    node, aten.layer_norm.default, source, [width], *given, decimal(eps)
                )
    return None


def _affine(vectors: list[Tensor]) -> Iterator[list[Tensor]]:
    """What a norm may have: nothing, a weight, a weight and a bias."""
    yield []
    flat = [v.reshape(-1) if v.ndim != 1 else v for v in vectors[:4]]
    for weight in flat:
        yield [weight]
    for weight in flat:
        for bias in flat:
            yield [weight, bias]


def _activation(r: Rewriter, node: Node) -> Node | None:
    """SiLU or GELU."""
    for region in regions(r.tracer, node, of(ELEMENTWISE, _CURVES)):
        if not region.has(*_CURVES):
            continue
        if any(c.numel() > 1 for c in region.constants()):
            return None
        x = torch.linspace(-6, 6, 121)
        y = region(x)
        if close(y, model_ops.silu(x), 1e-5):
            return r.before(node, aten.silu.default, region.source)
        if (form := gelu_of(x, y)) is not None:
            return r.before(node, aten.gelu.default, region.source, approximate=form)
    return None


def _bias(r: Rewriter, node: Node) -> Node | None:
    """A product with a weight, and a vector that is added to it."""
    for product, vector in (node.args[:2], node.args[1::-1]):
        if not isinstance(product, Node) or product.target is not aten.linear.default:
            continue
        bias = r.tracer.placed.get(vector) if isinstance(vector, Node) else None
        if bias is None or len(product.args) > 2 or bias.numel() != node.meta["val"].shape[-1]:
            continue
        flat = bias if bias.ndim == 1 else bias.reshape(-1)
        return r.before(node, aten.linear.default, *product.args, flat)
    return None


def _positions(r: Rewriter, node: Node) -> Node | None:
    """Rows of a table of learned positions, which are constants, added to activations."""
    for x, rows in (node.args[:2], node.args[1::-1]):
        found = r.tracer.placed.get(rows) if isinstance(rows, Node) else None
        known = None if found is None else r.tracer.rows.get(id(found))
        if known is None:
            continue
        _, table, first = known
        places = next(n for n in r.tracer.graph.nodes if n.name == "positions")
        if first:
            places = r.before(node, aten.add.Tensor, places, first)
        made = r.before(node, aten.embedding.default, table, places)
        return r.before(node, aten.add.Tensor, x, made)
    return None


def _short_axes(r: Rewriter, node: Node) -> Node | None:
    """A permutation that moves axes of one number: those stay, and a reshape gives the shape."""
    x: Any = node.args[0]
    order: Any = node.args[1]
    shape = list(x.meta["val"].shape)
    if all(shape[axis] != 1 or axis == place for place, axis in enumerate(order)):
        return None
    long = [axis for axis in order if shape[axis] != 1]
    places = iter(long)
    kept = [next(places) if size != 1 else axis for axis, size in enumerate(shape)]
    if long != sorted(long):
        x = r.before(node, aten.permute.default, x, kept)
    return r.before(node, aten.reshape.default, x, [shape[axis] for axis in order])


def _attention(r: Rewriter, node: Node) -> Node | None:
    found = attention(r.tracer, node)
    if found is None:
        return None
    heads = [
        r.before(node, aten.transpose.int, x.node, 1, 2) if x.tokens_first else x.node
        for x in found[:3]
    ]
    y = r.before(node, custom_ops.attention, *heads, *found[3:], None, True)
    y = r.before(node, aten.transpose.int, y, 1, 2)
    return r.before(node, aten.reshape.default, y, list(node.meta["val"].shape))


PATTERNS: dict[Any, tuple[Pattern, ...]] = {
    aten.add.Tensor: (_positions, _bias, _norm, rope),
    aten.mul.Tensor: (_activation, _norm),
    aten.div.Tensor: (_activation, _norm),
    aten.permute.default: (_short_axes,),
    **dict.fromkeys((aten.cat.default, aten.reshape.default), (rope,)),
    **dict.fromkeys(
        (
            aten.matmul.default,
            aten.bmm.default,
            aten.scaled_dot_product_attention.default,
        ),
        (_attention,),
    ),
}
"""What a node may be the end of."""
