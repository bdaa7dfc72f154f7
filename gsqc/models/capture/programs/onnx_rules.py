# SPDX-License-Identifier: Apache-2.0
"""One rule per operator of ONNX: which of torch's operators it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsqc.models.capture.programs.onnx_moves import MOVES, axes_of
from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.shapes import decimal
from gsqc.models.capture.programs.tracer import Node, Value, aten
from gsqc.models.readers.onnx_file import TYPES

Rule = Callable[[Scope, Any], Any]


def _plain(op: Any, count: int = 1, **kwargs: Any) -> Rule:
    """An operator that is one of torch's, on its first operands."""
    return lambda s, node: s.call(op, *s.inputs(node, count)[:count], **kwargs)


def _constant(s: Scope, node: Any) -> Value:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        value = s.attribute(node, name)
        if value is not None:
            whole = torch.int64 if "int" in name else torch.float32
            return value if isinstance(value, Tensor) else torch.tensor(value, dtype=whole)
    raise s.tracer.refused("a constant without a value")


def _filled(s: Scope, node: Any) -> Value:
    value = s.attribute(node, "value", torch.zeros(1))
    shape = s.integers(s.inputs(node, 1)[0])
    return s.call(aten.full.default, shape, value.reshape(-1)[0].item(), dtype=value.dtype)


def _cast(s: Scope, node: Any) -> Value:
    kind = TYPES.get(s.attribute(node, "to"))
    if kind is None:
        raise s.tracer.refused("a cast to a type that gsqc does not read")
    return s.call(aten.to.dtype, s.inputs(node, 1)[0], kind)


def _range(s: Scope, node: Any) -> Value:
    numbers = [v.item() if isinstance(v, Tensor) else None for v in s.inputs(node, 3)[:3]]
    if None in numbers or not numbers[2]:
        raise s.tracer.refused("a range that depends on the tokens")
    kind = s.inputs(node, 1)[0].dtype
    return s.call(aten.arange.start_step, *numbers, dtype=kind)


def _divide(s: Scope, node: Any) -> Value:
    x, y = s.inputs(node, 2)[:2]
    if isinstance(x, Tensor) and not x.is_floating_point():
        return s.call(aten.div.Tensor_mode, x, y, rounding_mode="trunc")
    return s.call(aten.div.Tensor, x, y)


def _power(s: Scope, node: Any) -> Value:
    x, y = s.inputs(node, 2)[:2]
    if isinstance(x, Node) and isinstance(y, Tensor) and y.numel() == 1:
        return s.call(aten.pow.Tensor_Scalar, x, y.item())
    return s.call(aten.pow.Tensor_Tensor, x, y)


def _reduce(op: Any) -> Rule:
    def rule(s: Scope, node: Any) -> Value:
        x, axes = s.inputs(node, 1)[0], axes_of(s, node, 1)
        keeps = bool(s.attribute(node, "keepdims", 1))
        return s.call(op, x, axes or list(range(len(s.shape(x)))), keeps)

    return rule


def _trilu(s: Scope, node: Any) -> Value:
    x, k = s.inputs(node, 2)[:2]
    op = aten.triu.default if s.attribute(node, "upper", 1) else aten.tril.default
    return s.call(op, x, s.integers(k)[0] if k is not None else 0)


def _cumulative(s: Scope, node: Any) -> Value:
    x, axis = s.inputs(node, 2)[:2]
    return s.call(aten.cumsum.default, x, s.integers(axis)[0])


def _where(s: Scope, node: Any) -> Value:
    condition, x, y = s.inputs(node, 3)[:3]
    # A token sees itself, so a softmax of scores is a number everywhere.
    if isinstance(condition, Node) and condition.target is aten.isnan.default:
        return y if condition.args[0] is y else x
    return s.call(aten.where.self, condition, x, y)


def _softmax(s: Scope, node: Any) -> Value:
    return s.call(aten.softmax.int, s.inputs(node, 1)[0], s.attribute(node, "axis", -1))


def _matmul(s: Scope, node: Any) -> Value:
    x, w = s.inputs(node, 2)[:2]
    return _product(s, x, w)


def _product(s: Scope, x: Value, w: Value, bias: Value = None) -> Value:
    """x · w, as a linear if w is a constant matrix."""
    if (made := s.tracer.linear(x, w, bias)) is not None:
        return made
    y = s.call(aten.matmul.default, x, w)
    return y if bias is None else s.call(aten.add.Tensor, y, bias)


def _gemm(s: Scope, node: Any) -> Value:
    x, w, bias = s.inputs(node, 3)[:3]
    if s.attribute(node, "alpha", 1.0) != 1 or s.attribute(node, "beta", 1.0) != 1:
        raise s.tracer.refused("a product with factors")
    if s.attribute(node, "transA", 0) or not isinstance(w, Tensor):
        raise s.tracer.refused("a product of activations as Gemm")
    return _product(s, x, s.tracer.turned(w) if s.attribute(node, "transB", 0) else w, bias)


def _layer_norm(s: Scope, node: Any) -> Value:
    x, weight, bias = s.inputs(node, 3)[:3]
    _require_last(s, node, x)
    eps, width = s.attribute(node, "epsilon", 1e-5), s.shape(x)[-1]
    return s.call(aten.layer_norm.default, x, [width], weight, bias, decimal(eps))


def _rms_norm(s: Scope, node: Any) -> Value:
    x, weight = s.inputs(node, 2)[:2]
    _require_last(s, node, x)
    return s.tracer.rms_norm(x, weight, decimal(s.attribute(node, "epsilon", 1e-5)))


def _require_last(s: Scope, node: Any, x: Value) -> None:
    if s.attribute(node, "axis", -1) not in (-1, len(s.shape(x)) - 1):
        raise s.tracer.refused("a norm over several axes")


def _gelu(s: Scope, node: Any) -> Value:
    form = s.attribute(node, "approximate", "none")
    return s.call(aten.gelu.default, s.inputs(node, 1)[0], approximate=form)


RULES: dict[str, Rule] = {
    **MOVES, "Constant": _constant, "ConstantOfShape": _filled, "Cast": _cast, "Range": _range,
    "Identity": lambda s, node: s.inputs(node, 1)[0],
    "Dropout": lambda s, node: s.inputs(node, 1)[0], "Trilu": _trilu,
    "CumSum": _cumulative, "Where": _where, "Softmax": _softmax, "MatMul": _matmul, "Gemm": _gemm,
    "Div": _divide, "Pow": _power, "ReduceMean": _reduce(aten.mean.dim),
    "ReduceSum": _reduce(aten.sum.dim_IntList), "ReduceMax": _reduce(aten.amax.default),
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm, "Gelu": _gelu,
    "Add": _plain(aten.add.Tensor, 2), "Sub": _plain(aten.sub.Tensor, 2),
    "Mul": _plain(aten.mul.Tensor, 2), "Max": _plain(aten.maximum.default, 2),
    "Min": _plain(aten.minimum.default, 2), "Mod": _plain(aten.remainder.Tensor, 2),
    "Equal": _plain(aten.eq.Tensor, 2), "Less": _plain(aten.lt.Tensor, 2),
    "LessOrEqual": _plain(aten.le.Tensor, 2), "Greater": _plain(aten.gt.Tensor, 2),
    "GreaterOrEqual": _plain(aten.ge.Tensor, 2), "And": _plain(aten.logical_and.default, 2),
    "Or": _plain(aten.logical_or.default, 2), "Not": _plain(aten.logical_not.default),
    "IsNaN": _plain(aten.isnan.default), "Sqrt": _plain(aten.sqrt.default),
    "Reciprocal": _plain(aten.reciprocal.default), "Neg": _plain(aten.neg.default),
    "Abs": _plain(aten.abs.default), "Exp": _plain(aten.exp.default),
    "Log": _plain(aten.log.default), "Cos": _plain(aten.cos.default),
    "Sin": _plain(aten.sin.default), "Tanh": _plain(aten.tanh.default),
    "Sigmoid": _plain(aten.sigmoid.default), "Erf": _plain(aten.erf.default),
    "Relu": _plain(aten.relu.default), "Swish": _plain(aten.silu.default),
}  # fmt: skip
"""ONNX's own operators."""
