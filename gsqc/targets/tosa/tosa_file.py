# SPDX-License-Identifier: Apache-2.0
"""A TOSA flatbuffer while it is written: tensors, constants, and the simple operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gsqc.errors import TargetError
from gsqc.numerics.operators.trace import Operator

VERSION = (1, 0)
"""The TOSA version that is written."""

Tensor = tuple[str, tuple[int, ...], str]
"""A serialised tensor: name, shape and dtype, which can also be `int48` or `shape`."""

_BINARY = {
    "add": ("ADD", "Add"),
    "sub": ("SUB", "Sub"),
    "logical_left_shift": ("LOGICAL_LEFT_SHIFT", "LogicalLeftShift"),
    "logical_right_shift": ("LOGICAL_RIGHT_SHIFT", "LogicalRightShift"),
    "bitwise_and": ("BITWISE_AND", "BitwiseAnd"),
    "bitwise_or": ("BITWISE_OR", "BitwiseOr"),
    "bitwise_xor": ("BITWISE_XOR", "BitwiseXor"),
    "greater": ("GREATER", "Greater"),
    "equal": ("EQUAL", "Equal"),
}
"""Operators of two operands without attributes."""


def tosa_serializer() -> Any:
    """The serialisation library of tosa-tools. TargetError if it is not installed."""
    try:
        import tosa_serializer as library
    except ImportError:
        raise TargetError("tosa-tools is not installed", "pip install 'gsqc[npu]'") from None
    return library


class TosaFile:
    """Writes one program. `emit` is the one place that adds an operator.

    `origins` gives, for each tensor, the recorded operator that was written when it was made.
    """

    def __init__(self) -> None:
        self.ts = tosa_serializer()
        # EMBED keeps the constants in the flatbuffer: a program must be one file.
        self.file = self.ts.TosaSerializer("", self.ts.ConstMode.EMBED, *VERSION, 0, False)
        self.constants: dict[tuple[Any, ...], Tensor] = {}
        self.origins: dict[str, Operator] = {}
        self.node: Operator | None = None

    def dtype(self, name: str) -> Any:
        """The serialiser's word for a type."""
        return getattr(self.ts.DType, name.upper())

    def emit(
        self,
        operator: str,
        attribute: str,
        args: Sequence[Tensor],
        shape: Sequence[int],
        dtype: str,
        *values: Any,
    ) -> Tensor:
        """Append an operator. `values` are those of its attribute, in the schema's order."""
        result = self.file.addIntermediate(list(shape), self.dtype(dtype))
        attributes = self.ts.TosaSerializerAttribute()
        getattr(attributes, f"{attribute}Attribute")(*values)
        names = [name for name, _, _ in args]
        self.file.addOperator(getattr(self.ts.Op, operator), names, [result.name], attributes)
        if self.node is not None:
            self.origins[result.name] = self.node
        return result.name, tuple(shape), dtype

    def constant(self, values: Sequence[int], shape: Sequence[int], dtype: str) -> Tensor:
        """A constant tensor. Equal constants are written once."""
        key = (tuple(values), tuple(shape), dtype)
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            array = np.asarray(values, np.int64)
            self.file.addConst(
                list(shape), self.dtype(dtype), array if dtype == "shape" else array.tolist(), name
            )
            self.constants[key] = (name, tuple(shape), dtype)
        return self.constants[key]

    def scalar(self, value: int, like: Tensor) -> Tensor:
        """An int32 constant of the rank of a tensor."""
        return self.constant([value], (1,) * len(like[1]), "int32")

    def binary(self, operator: str, x: Tensor, y: Tensor) -> Tensor:
        """An element-wise operator on two operands, which are broadcast."""
        shape = np.broadcast_shapes(x[1], y[1])
        # Vela's rounding of a MUL with a shift could not be verified, so the shift is always 0.
        if operator == "mul":
            return self.emit("MUL", "Mul", [x, y, self.constant([0], (1,), "int8")], shape, "int32")
        # The two right shifts of ours are one operator of TOSA with an attribute.
        if operator.startswith("arithmetic_right_shift"):
            rounding = operator.endswith("round")
            return self.emit(
                "ARITHMETIC_RIGHT_SHIFT", "ArithmeticRightShift", [x, y], shape, "int32", rounding
            )
        if operator in ("minimum", "maximum"):
            # The schema requires an answer, although integers have no NaN.
            propagate = self.ts.NanPropagationMode.PROPAGATE
            return self.emit(operator.upper(), operator.title(), [x, y], shape, "int32", propagate)
        name, attribute = _BINARY[operator]
        return self.emit(
            name, attribute, [x, y], shape, "bool" if operator in ("greater", "equal") else "int32"
        )

    def rescale(self, x: Tensor, multiplier: int, shift: int) -> Tensor:
        """(x · multiplier + 2^(shift-1)) >> shift as int32."""
        # The 48-bit sum of a matmul only takes a 16-bit multiplier: the specification's rule.
        scale32 = x[2] == "int32"
        factor = self.constant([multiplier], (1,), "int32" if scale32 else "int16")
        # gsqc's formats have no zero points, but the operator takes one for each side.
        zeros = [self.constant([0], (1,), x[2]), self.constant([0], (1,), "int32")]
        args = [x, factor, self.constant([shift], (1,), "int8"), *zeros]
        # DOUBLE_ROUND would round twice where the shift is large.
        single = self.ts.RoundingMode.SINGLE_ROUND
        return self.emit(
            "RESCALE", "Rescale", args, x[1], "int32", scale32, single, False, False, False
        )

    def shape_constant(self, sizes: Sequence[int]) -> Tensor:
        """Sizes as TOSA's operators take them."""
        return self.constant(sizes, (len(sizes),), "shape")

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in another shape."""
        return self.emit("RESHAPE", "Reshape", [x, self.shape_constant(shape)], shape, x[2])
