# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary embedding, activations and biases of a traced graph, as single operators.

before:  s = aten.mul(x, aten.rsqrt(aten.add(aten.mean(aten.pow(x, 2)), eps)))   y = aten.mul(w, s)
after:   y = gsqc.rms_norm(x, w, eps, 0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsqc.models import model_ops
from gsqc.models.capture import custom_ops
from gsqc.models.capture.programs.attention import attention
from gsqc.models.capture.programs.regions import Region, close, random_numbers, regions
from gsqc.models.capture.programs.tracer import Node, Tracer, aten, decimal

Pattern = Callable[["Rewriter", Node], Node | None]

_ELEMENTWISE = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar),
    *(aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.square.default, aten.neg.default),
    *(aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default, aten.abs.default),
    *(aten.add.Scalar, aten.sub.Scalar, aten.div.Scalar, aten.rsub.Scalar),
)
_CURVES = (aten.sigmoid.default, aten.tanh.default, aten.erf.default, aten.exp.default)
_MEANS = (aten.mean.dim, aten.sum.dim_IntList)
_NORMS = (aten.layer_norm.default,)
_MOVES = (
    *(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.cat.default),
    *(aten.transpose.int, aten.permute.default, aten.unsqueeze.default, aten.squeeze.dim),
    *(aten.slice.Tensor, aten.select.int, aten.stack.default, aten.expand.default),
    *(aten.flatten.using_ints,),
)


def _of(*groups: tuple[Any, ...]) -> Callable[[Node], bool]:
    targets = {target for group in groups for target in group}
    return lambda node: node.target in targets


class Rewriter:
    """Replaces nodes of a traced graph by the operators that they compute together.

    tables  cos and sin of rotary embeddings by name, float64 [T, W/2]
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.tables: dict[str, np.ndarray[Any, Any]] = {}

    def run(self) -> None:
        """Rewrite the whole graph. Raises ModelError for attention that is not causal."""
        for node in list(self.tracer.graph.nodes):
            if node.op != "call_function":
                continue
            for pattern in PATTERNS.get(node.target, ()):
                made = pattern(self, node)
                if made is not None:
                    node.replace_all_uses_with(made)
                    break
        self.tracer.graph.eliminate_dead_code()

    def before(self, node: Node, op: Any, *args: Any, **kwargs: Any) -> Node:
        """A new call in front of a node, in its place of the program."""
        return self.inserted(node, lambda tracer: tracer.call(op, *args, **kwargs))

    def inserted(self, node: Node, make: Callable[[Tracer], Any]) -> Node:
        """New calls in front of a node, in its place of the program."""
        self.tracer.place = str(node.meta.get("stack_trace", ""))
        with self.tracer.graph.inserting_before(node):
            made: Node = make(self.tracer)
        return made

    def table(self, name: str, numbers: Tensor) -> str:
        """The name of a table with these numbers: a known one, or a new one."""
        array = numbers.double().numpy()
        for number in range(len(self.tables) + 1):
            known = self.tables.setdefault(f"{name}_{number}" if number else name, array)
            if np.array_equal(known, array):
                return f"{name}_{number}" if number else name
        raise AssertionError("one of so many names is free")


def _norm(r: Rewriter, node: Node) -> Node | None:
    """RMS norm or LayerNorm, with its weight and its bias if this is all of it."""
    allowed = _of(_ELEMENTWISE, _MEANS, _NORMS)
    for region in regions(r.tracer, node, allowed):
        source = region.source
        if source.meta["val"].shape != node.meta["val"].shape:
            continue
        if region.has(*_MEANS, *_NORMS) and (made := _norm_of(r, region)) is not None:
            return made
    return None


def _norm_of(r: Rewriter, region: Region) -> Node | None:
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
                return r.inserted(node, lambda t: t.rms_norm(source, affine[0], decimal(eps)))
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
    for region in regions(r.tracer, node, _of(_ELEMENTWISE, _CURVES)):
        if not region.has(*_CURVES):
            continue
        if any(c.numel() > 1 for c in region.constants()):
            return None
        x = torch.linspace(-6, 6, 121)
        y = region(x)
        if y is None or y.shape != x.shape:
            continue
        # The two forms of GELU differ by 5e-4 at most.
        if close(y, model_ops.silu(x), 1e-5):
            return r.before(node, aten.silu.default, region.source)
        for form in ("tanh", "none"):
            if close(y, model_ops.gelu(x, tanh=form == "tanh"), 1e-5):
                return r.before(node, aten.gelu.default, region.source, approximate=form)
    return None


def _rope(r: Rewriter, node: Node) -> Node | None:
    """Rotary embedding of heads [1, H, T, D], or of tokens [1, T, H, D]."""
    for region in regions(r.tracer, node, _of(_ELEMENTWISE, _MOVES)):
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
    y = r.before(node, custom_ops.attention, *heads, *found[3:])
    y = r.before(node, aten.transpose.int, y, 1, 2)
    shape = node.meta["val"].shape
    return y if y.meta["val"].shape == shape else r.before(node, aten.view.default, y, list(shape))


PATTERNS: dict[Any, tuple[Pattern, ...]] = {
    aten.add.Tensor: (_positions, _bias, _norm, _rope),
    aten.mul.Tensor: (_activation, _norm),
    aten.div.Tensor: (_activation, _norm),
    aten.permute.default: (_short_axes,),
    **dict.fromkeys((aten.cat.default, aten.view.default, aten.reshape.default), (_rope,)),
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
