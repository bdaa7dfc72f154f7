# SPDX-License-Identifier: Apache-2.0
"""Rules of ONNX's and onnxruntime's operators for attention and rotary embedding.

They are written out here, and found again by what they compute, as in any file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.tracer import Node, Value, aten

_HIDDEN = -1e9


def _rotate(s: Scope, x: Value, cos: Tensor, sin: Tensor, *, pairs: bool) -> Value:
    """x [1, H, T, D] with its first columns rotated by cos and sin [T, W/2]."""
    half, width = cos.shape[-1], s.shape(x)[-1]
    first = s.call(aten.slice.Tensor, x, -1, 0, 2 * half, 1)
    if pairs:
        split = s.call(aten.reshape.default, first, [*s.shape(first)[:-1], half, 2])
        a, c = (s.call(aten.select.int, split, -1, k) for k in range(2))
    else:
        a, c = (s.call(aten.slice.Tensor, first, -1, k * half, (k + 1) * half, 1) for k in range(2))

    def turned(u: Value, v: Value, op: Any) -> Value:
        return s.call(op, s.call(aten.mul.Tensor, u, cos), s.call(aten.mul.Tensor, v, sin))

    new_a, new_c = turned(a, c, aten.sub.Tensor), turned(c, a, aten.add.Tensor)
    if pairs:
        y = s.call(aten.stack.default, [new_a, new_c], -1)
        y = s.call(aten.reshape.default, y, s.shape(first))
    else:
        y = s.call(aten.cat.default, [new_a, new_c], -1)
    if 2 * half == width:
        return y
    rest = s.call(aten.slice.Tensor, x, -1, 2 * half, width, 1)
    return s.call(aten.cat.default, [y, rest], -1)


def _tables(s: Scope, cos: Value, sin: Value, positions: Value) -> list[Tensor]:
    """cos and sin [T, W/2] of the positions 0 … T-1, without a batch."""
    tokens, found = s.tracer.tokens, []
    for table in (cos, sin):
        if not isinstance(table, Tensor) or table.ndim not in (2, 3):
            raise s.tracer.refused("a rotary embedding by the tokens")
        if table.ndim == 2:
            places = torch.arange(tokens) if positions is None else positions.reshape(-1)
            places = places + torch.arange(tokens) if places.numel() == 1 else places
            table = s.call(aten.index_select.default, table, 0, places)
        found.append(table.reshape(tokens, -1))
    return found


def rotary(s: Scope, node: Any) -> Value:
    """RotaryEmbedding of ONNX (x, cos, sin, positions) and of onnxruntime (x, positions, …)."""
    x, *given = s.inputs(node, 4)[:4]
    cos, sin, positions = given if node.domain != "com.microsoft" else (*given[1:], given[0])
    if s.attribute(node, "scale", 1.0) != 1:
        raise s.tracer.refused("a rotary embedding with a scale")
    rotated = s.attribute(node, "rotary_embedding_dim", 0)
    tables = _tables(s, cos, sin, positions)
    tables = [s.tracer.kept(t[:, : rotated // 2] if rotated else t) for t in tables]
    pairs = bool(s.attribute(node, "interleaved", 0))
    shape = s.shape(x)
    if len(shape) == 4:
        return _rotate(s, x, *tables, pairs=pairs)
    heads = s.attribute(node, "num_heads", 0) or shape[-1] // (2 * tables[0].shape[-1])
    return _merged(s, _rotate(s, _split_heads(s, x, heads), *tables, pairs=pairs))


def _split_heads(s: Scope, x: Value, heads: int) -> Value:
    """[1, T, H·D] -> [1, H, T, D]."""
    batch, tokens, width = s.shape(x)
    split = s.call(aten.reshape.default, x, [batch, tokens, heads, width // max(heads, 1)])
    return s.call(aten.transpose.int, split, 1, 2)


def _merged(s: Scope, x: Value) -> Value:
    """[1, H, T, D] -> [1, T, H·D]."""
    y = s.call(aten.transpose.int, x, 1, 2)
    return s.call(aten.reshape.default, y, [*s.shape(y)[:2], -1])


# ------------------------------------------------------------------------------------------------
# attention


def _attend(
    s: Scope, q: Value, k: Value, v: Value, scale: float, cap: float, masks: list[Tensor]
) -> Value:
    """softmax(cap(scale · q · kᵀ) + masks) · v of heads, those of k and v repeated."""
    heads, groups = s.shape(q)[1], s.shape(k)[1]

    def repeated(x: Value) -> Value:
        if heads == groups or heads % max(groups, 1):
            return x
        _, _, tokens, width = s.shape(x)
        x = s.call(aten.unsqueeze.default, x, 2)
        x = s.call(aten.expand.default, x, [1, groups, heads // groups, tokens, width])
        return s.call(aten.reshape.default, x, [1, heads, tokens, width])

    keys = s.call(aten.transpose.int, repeated(k), 2, 3)
    scores = s.call(aten.mul.Tensor, s.call(aten.matmul.default, q, keys), scale)
    if cap:
        inner = s.call(aten.tanh.default, s.call(aten.div.Tensor, scores, cap))
        scores = s.call(aten.mul.Tensor, inner, cap)
    for mask in masks:
        scores = s.call(aten.add.Tensor, scores, mask)
    weights = s.call(aten.softmax.int, scores, -1)
    return s.call(aten.matmul.default, weights, repeated(v))


def _added(visible: Tensor) -> Tensor:
    return torch.where(visible, 0.0, _HIDDEN)


def _causal(s: Scope, window: int = 0) -> Tensor:
    ones = torch.ones(s.tracer.tokens, s.tracer.tokens, dtype=torch.bool).tril()
    return _added(ones.triu(1 - window) if window > 0 else ones)


def attention(s: Scope, node: Any) -> Any:
    """ONNX's Attention, of heads or of activations."""
    q, k, v, mask = s.inputs(node, 4)[:4]
    masks = [_causal(s)] if s.attribute(node, "is_causal", 0) else []
    if mask is not None:
        if not isinstance(mask, Tensor):
            raise s.tracer.refused("a mask that depends on the tokens")
        masks.append(_added(mask) if mask.dtype == torch.bool else mask)
    is_flat = len(s.shape(q)) == 3
    if is_flat:
        heads = [s.attribute(node, f"{kind}_num_heads", 1) for kind in ("q", "kv", "kv")]
        q, k, v = (_split_heads(s, x, n) for x, n in zip((q, k, v), heads, strict=True))
    scale = s.attribute(node, "scale") or s.shape(q)[-1] ** -0.5
    y = _attend(s, q, k, v, scale, s.attribute(node, "softcap", 0.0), masks)
    return (_merged(s, y) if is_flat else y), k, v


def grouped(s: Scope, node: Any) -> Any:
    """onnxruntime's GroupQueryAttention. q may hold q, k and v side by side."""
    given = s.inputs(node, 12)
    q, k, v = given[:3]
    heads, groups = s.attribute(node, "num_heads", 1), s.attribute(node, "kv_num_heads", 1)
    for place, what in ((10, "a bias of attention"), (11, "attention sinks")):
        if given[place] is not None:
            raise s.tracer.refused(what)
    if s.attribute(node, "smooth_softmax", 0):
        raise s.tracer.refused("attention sinks")
    if k is None:
        width = s.shape(q)[-1] // max(heads + 2 * groups, 1)
        q, k, v = s.tracer.split(q, -1, [heads * width, groups * width, groups * width])
    q, k, v = (_split_heads(s, x, n) for x, n in ((q, heads), (k, groups), (v, groups)))
    if s.attribute(node, "do_rotary", 0):
        tables = [s.tracer.kept(t) for t in _tables(s, given[7], given[8], None)]
        pairs = bool(s.attribute(node, "rotary_interleaved", 0))
        q, k = (_rotate(s, x, *tables, pairs=pairs) for x in (q, k))
    scale = s.attribute(node, "scale", 0.0) or s.shape(q)[-1] ** -0.5
    window = s.attribute(node, "local_window_size", -1)
    window = window if window < s.tracer.tokens else -1
    y = _attend(s, q, k, v, scale, s.attribute(node, "softcap", 0.0), [_causal(s, window)])
    return _merged(s, y), k, v


def multi_head(s: Scope, node: Any) -> Any:
    """onnxruntime's MultiHeadAttention of activations."""
    q, k, v, bias, padding, mask = s.inputs(node, 6)[:6]
    if bias is not None or padding is not None or not all(isinstance(x, Node) for x in (q, k, v)):
        raise s.tracer.refused("MultiHeadAttention with a bias, a padding or packed operands")
    heads = s.attribute(node, "num_heads", 1)
    q, k, v = (_split_heads(s, x, heads) for x in (q, k, v))
    masks = [_causal(s)] if s.attribute(node, "unidirectional", 0) else []
    masks += [] if mask is None else [mask]
    scale = s.attribute(node, "scale", 0.0) or s.shape(q)[-1] ** -0.5
    return _merged(s, _attend(s, q, k, v, scale, 0.0, masks)), k, v


FUSED: dict[str, Callable[[Scope, Any], Any]] = {"RotaryEmbedding": rotary, "Attention": attention}
"""ONNX's operators that stand for several."""
