# SPDX-License-Identifier: Apache-2.0
"""The operators of .pt2 files that are traced. They compute numbers from numbers and do nothing
else, so a stranger's file can call no other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from gsqc.models.capture.programs.shapes import shape_of
from gsqc.models.capture.programs.tracer import Tracer, Value, aten

UNBIND = "unbind.int"
_MOST_PARTS = 64
GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
CHECKS = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain_range")
"""How the names of operators begin that only check."""
NUMBERS: dict[str, Callable[..., Any]] = {
    "_operator.add": operator.add, "_operator.sub": operator.sub, "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv, "_operator.neg": operator.neg,
    "torch.sym_sum": sum, "torch.sym_max": max, "torch.sym_min": min,
}  # fmt: skip
"""Operators on plain numbers, as sizes are."""
SPLITS = ("split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default")
"""Operators with a result for each part of an axis."""
ALLOWED = frozenset((
    "__and__.Tensor", "__or__.Tensor", "_softmax.default", "_to_copy.default",
    "_unsafe_view.default", "abs.default", "add.Scalar", "add.Tensor", "addmm.default",
    "alias.default", "amax.default", "any.dim", "arange.default", "arange.start",
    "arange.start_step", "bitwise_and.Tensor", "bitwise_not.default", "bitwise_or.Tensor",
    "bmm.default", "cat.default", "ceil.default", "clamp.default", "clone.default",
    "contiguous.default", "cos.default", "cumsum.default", "detach.default", "detach_.default",
    "diff.default", "div.Scalar", "div.Tensor", "div.Tensor_mode", "dropout.default",
    "embedding.default", "eq.Scalar", "eq.Tensor", "erf.default", "exp.default",
    "expand.default", "expand_as.default", "flatten.using_ints", "floor.default",
    "full.default", "full_like.default", "ge.Scalar", "ge.Tensor", "gelu.default", "gt.Scalar",
    "gt.Tensor", "index.Tensor", "index_select.default", "isnan.default", "layer_norm.default",
    "le.Scalar", "le.Tensor", "lift_fresh_copy.default", "linear.default", "log.default",
    "logical_and.default", "logical_not.default", "logical_or.default", "lt.Scalar",
    "lt.Tensor", "masked_fill.Scalar", "matmul.default", "maximum.default", "mean.dim",
    "minimum.default", "mm.default", "mul.Scalar", "mul.Tensor", "native_layer_norm.default",
    "ne.Scalar", "ne.Tensor", "neg.default", "new_full.default", "new_ones.default",
    "new_zeros.default", "ones.default", "ones_like.default", "permute.default", "pow.Scalar",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "reciprocal.default", "relu.default",
    "remainder.Scalar", "repeat.default", "repeat_interleave.self_int", "reshape.default",
    "rms_norm.default", "rsqrt.default", "rsub.Scalar", "scalar_tensor.default",
    "scaled_dot_product_attention.default", "select.int", "sigmoid.default", "silu.default",
    "sin.default", "slice.Tensor", "softmax.int", "sqrt.default", "square.default",
    "squeeze.dim", "squeeze.dims", "stack.default", "sub.Scalar", "sub.Tensor",
    "sum.dim_IntList", "t.default", "tanh.default", "to.device", "to.dtype", "to.dtype_layout",
    "transpose.int", "tril.default", "triu.default", "type_as.default", "unflatten.int",
    "unsqueeze.default", "view.default", "where.ScalarOther", "where.ScalarSelf", "where.self",
    "zeros.default", "zeros_like.default",
))  # fmt: skip
"""Operators of torch that are called."""


def kind_of(target: str) -> str:
    """The name of an operator of torch, as add.Tensor."""
    return target.removeprefix("torch.ops.aten.")


def is_known(target: str) -> bool:
    """Whether an operator of a program is one that is traced."""
    return (
        kind_of(target) in (*ALLOWED, *SPLITS, "sym_size.int", UNBIND)
        or target in (GRAD, *NUMBERS)
        or target.startswith(CHECKS)
    )


def parts(tracer: Tracer, kind: str, args: list[Any], named: dict[str, Any]) -> list[Value]:
    """The parts of an axis that an operator of SPLITS or unbind gives, each as a slice."""
    x, sizes = args[0], args[1] if len(args) > 1 else 0
    axis = named.get("dim", args[2] if len(args) > 2 else 0)
    if kind == UNBIND:
        axis, sizes = sizes or named.get("dim", 0), 1
    whole = int(shape_of(x).shape[axis])
    if kind == "chunk.default":
        sizes = -(-whole // max(sizes, 1))
    if isinstance(sizes, int):
        count = -(-whole // max(sizes, 1))
        sizes = [min(sizes, whole - k * sizes) for k in range(min(count, _MOST_PARTS + 1))]
    if len(sizes) > _MOST_PARTS:
        raise tracer.refused(f"an axis in more than {_MOST_PARTS} parts")
    if kind == UNBIND:
        return [tracer.call(aten.select.int, x, axis, k) for k in range(whole)]
    return tracer.split(x, axis, sizes)
