# SPDX-License-Identifier: Apache-2.0
"""Rules of onnxruntime's own operators: norms, activations, and products with weights in codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gsqc.models.capture.programs.onnx_attention import grouped, multi_head, rotary
from gsqc.models.capture.programs.onnx_rules import RULES, Rule
from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.shapes import decimal
from gsqc.models.capture.programs.tracer import Value, aten
from gsqc.models.capture.programs.weights import NBits


def _total(s: Scope, x: Value, skip: Value, bias: Value) -> Value:
    """x + skip + bias. The bias may be left out."""
    total = s.call(aten.add.Tensor, x, skip)
    return total if bias is None else s.call(aten.add.Tensor, total, bias)


def _skip_norm(s: Scope, node: Any) -> Any:
    """The sum of two activations, and its RMS norm: results 0 and 3."""
    x, skip, weight, bias = s.inputs(node, 4)[:4]
    total = _total(s, x, skip, bias)
    y = s.tracer.rms_norm(total, weight, decimal(s.attribute(node, "epsilon", 1e-5)))
    return y, None, None, total


def _skip_layer_norm(s: Scope, node: Any) -> Any:
    x, skip, weight, offset, bias = s.inputs(node, 5)[:5]
    total = _total(s, x, skip, bias)
    eps, width = decimal(s.attribute(node, "epsilon", 1e-12)), s.shape(total)[-1]
    y = s.call(aten.layer_norm.default, total, [width], weight, offset, eps)
    return y, None, None, total


def _fast_gelu(s: Scope, node: Any) -> Value:
    x, bias = s.inputs(node, 2)[:2]
    x = x if bias is None else s.call(aten.add.Tensor, x, bias)
    return s.call(aten.gelu.default, x, approximate="tanh")


def _bias_gelu(s: Scope, node: Any) -> Value:
    x, bias = s.inputs(node, 2)[:2]
    return s.call(aten.gelu.default, s.call(aten.add.Tensor, x, bias))


def _quick_gelu(s: Scope, node: Any) -> Value:
    """x · sigmoid(alpha · x). It is SiLU if alpha is 1."""
    x, alpha = s.inputs(node, 1)[0], s.attribute(node, "alpha", 1.702)
    inner = x if alpha == 1 else s.call(aten.mul.Tensor, x, float(alpha))
    return s.call(aten.mul.Tensor, x, s.call(aten.sigmoid.default, inner))


# ------------------------------------------------------------------------------------------------
# weights in codes


def _nbits(s: Scope, node: Any, codes: Value, scales: Value, zeros: Value, columns: int) -> NBits:
    """A weight of MatMulNBits or GatherBlockQuantized."""
    bits, block = s.attribute(node, "bits", 4), s.attribute(node, "block_size", 32)
    constants = [v for v in (codes, scales, zeros) if v is not None]
    if bits not in (4, 8) or block % 16 or block <= 0 or columns <= 0 or columns % block:
        raise s.tracer.refused(f"codes of {bits} bits in blocks of {block} of {columns} numbers")
    if not all(isinstance(v, Tensor) for v in constants):
        raise s.tracer.refused("a weight that depends on the tokens")
    rows = codes.shape[0]
    count, blocks = rows * columns * bits // 8, columns // block
    if codes.dtype != torch.uint8 or codes.numel() != count or scales.numel() != rows * blocks:
        raise s.tracer.refused("codes and scales do not fit each other")
    unpacked = _unpacked(codes.reshape(rows, -1), bits)
    if zeros is None:
        offsets = torch.full((rows, blocks), float(1 << (bits - 1)))
    elif zeros.dtype == torch.uint8:
        offsets = _unpacked(zeros.reshape(rows, -1), bits)[:, :blocks].float()
    else:
        offsets = zeros.reshape(rows, blocks).float()
    return NBits(unpacked, scales.reshape(rows, blocks).float(), offsets, bits, block)


def _unpacked(codes: Tensor, bits: int) -> Tensor:
    """uint8 [N, bytes] -> uint8 [N, codes]: the lower four bits come first."""
    if bits == 8:
        return codes
    return torch.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)


def _matmul_nbits(s: Scope, node: Any) -> Value:
    x, codes, scales, zeros, order, bias = s.inputs(node, 6)[:6]
    if order is not None:
        raise s.tracer.refused("codes with an order of their own (g_idx)")
    weight = _nbits(s, node, codes, scales, zeros, s.attribute(node, "K", 0))
    return s.call(aten.linear.default, x, s.coded(weight), *(() if bias is None else (bias,)))


def _gather_quantised(s: Scope, node: Any) -> Value:
    codes, indices, scales, zeros = s.inputs(node, 4)[:4]
    axes = s.attribute(node, "gather_axis", 0), s.attribute(node, "quantize_axis", 1)
    if axes not in ((0, 1), (0, -1)) or codes.ndim != 2:
        raise s.tracer.refused("a table that is quantised along another axis")
    columns = codes.shape[1] * 8 // s.attribute(node, "bits", 4)
    table = s.coded(_nbits(s, node, codes, scales, zeros, columns))
    return s.call(aten.embedding.default, table, indices)


MICROSOFT: dict[str, Rule] = {
    "SimplifiedLayerNormalization": RULES["RMSNormalization"],
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "SkipLayerNormalization": _skip_layer_norm,
    "FastGelu": _fast_gelu,
    "BiasGelu": _bias_gelu,
    "QuickGelu": _quick_gelu,
    "Gelu": RULES["Gelu"],
    "MatMulNBits": _matmul_nbits,
    "GatherBlockQuantized": _gather_quantised,
    "RotaryEmbedding": rotary,
    "GroupQueryAttention": grouped,
    "MultiHeadAttention": multi_head,
}
"""onnxruntime's operators."""
