# SPDX-License-Identifier: Apache-2.0
"""Serialisation: a recorded program as a TOSA 1.0 flatbuffer, profile PRO-INT with the extension EXT-INT16.

Every operator of the builder is the TOSA operator of that name, apart from

    mulr15(a, b)   a·b in two halves of a: (a >> 15)·b + ((a & 0x7fff)·b + 2^14 >> 15), 6 operators
    mulr30(a, b)   both operands in halves of 15 bits, 13 operators
    mulc(x, c)     RESCALE with scale32, multiplier c and shift 31
    matmul         TRANSPOSE of w, MATMUL with a 48-bit result, RESCALE by 2^-shift
    iota           a constant

Forms that Vela compiles to wrong code are written in another way: `vela_faults`. A CAST to a narrower type is written
as it is: the builder's contract is that the value fits, which numpy asserts.
Needs the package tosa-tools (the extra `npu`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gsqc.errors import TargetError
from gsqc.operators.trace import Node, Trace
from gsqc.operators.vela_faults import VelaFaults

VERSION = (1, 0)
"""The TOSA version that is written."""

Tensor = tuple[str, tuple[int, ...], str]
"""A serialised tensor: name, shape, dtype; `int48` and `shape` beside the builder's types."""

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

_LAYOUT = ("const", "iota", "reshape", "transpose", "slice", "concat", "gather")


def tosa_serializer() -> Any:
    """The serialisation library of tosa-tools; TargetError if it is not installed."""
    try:
        import tosa_serializer as library
    except ImportError:
        raise TargetError("tosa-tools is not installed", "pip install 'gsqc[npu]'") from None
    return library


class Writer:
    """Writes one program; `emit` is the one place that adds an operator."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.ts = tosa_serializer()
        self.file = self.ts.TosaSerializer("", self.ts.ConstMode.EMBED, *VERSION, 0, False)
        self.constants: dict[tuple[Any, ...], Tensor] = {}
        self.tensors: dict[int, Tensor] = {}
        self.faults = VelaFaults(trace)
        self.origins: dict[str, Node] = {}
        self.node: Node | None = None

    def dtype(self, name: str) -> Any:
        return getattr(self.ts.DType, name.upper())

    def emit(
        self, operator: str, attribute: str, args: Sequence[Tensor], shape: Sequence[int], dtype: str, *values: Any
    ) -> Tensor:
        """Append an operator; `values` are those of its attribute, in the schema's order."""
        result = self.file.addIntermediate(list(shape), self.dtype(dtype))
        attributes = self.ts.TosaSerializerAttribute()
        getattr(attributes, f"{attribute}Attribute")(*values)
        names = [name for name, _, _ in args]
        self.file.addOperator(getattr(self.ts.Op, operator), names, [result.name], attributes)
        if self.node is not None:
            self.origins[result.name] = self.node
        return result.name, tuple(shape), dtype

    def constant(self, values: Sequence[int], shape: Sequence[int], dtype: str) -> Tensor:
        """A constant tensor; equal constants are written once."""
        key = (tuple(values), tuple(shape), dtype)
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            array = np.asarray(values, np.int64)
            self.file.addConst(list(shape), self.dtype(dtype), array if dtype == "shape" else array.tolist(), name)
            self.constants[key] = (name, tuple(shape), dtype)
        return self.constants[key]

    def scalar(self, value: int, like: Tensor) -> Tensor:
        """An int32 constant of the rank of a tensor."""
        return self.constant([value], (1,) * len(like[1]), "int32")

    # ---------------------------------------------------------------------------------------------------- operators

    def binary(self, operator: str, x: Tensor, y: Tensor) -> Tensor:
        shape = np.broadcast_shapes(x[1], y[1])
        if operator == "mul":
            return self.emit("MUL", "Mul", [x, y, self.constant([0], (1,), "int8")], shape, "int32")
        if operator.startswith("arithmetic_right_shift"):
            rounding = operator.endswith("round")
            return self.emit("ARITHMETIC_RIGHT_SHIFT", "ArithmeticRightShift", [x, y], shape, "int32", rounding)
        if operator in ("minimum", "maximum"):
            propagate = self.ts.NanPropagationMode.PROPAGATE  # required by the schema; integers have no NaN
            return self.emit(operator.upper(), operator.title(), [x, y], shape, "int32", propagate)
        name, attribute = _BINARY[operator]
        return self.emit(name, attribute, [x, y], shape, "bool" if operator in ("greater", "equal") else "int32")

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x = high · 2^15 + low with 0 ≤ low < 2^15."""
        high = self.binary("arithmetic_right_shift", x, self.scalar(15, x))
        return high, self.binary("bitwise_and", x, self.scalar(0x7FFF, x))

    def round15(self, x: Tensor) -> Tensor:
        return self.binary("arithmetic_right_shift_round", x, self.scalar(15, x))

    def mulr15(self, x: Tensor, y: Tensor) -> Tensor:
        high, low = self.halves(x)
        rounded = self.round15(self.binary("mul", low, y))
        return self.binary("add", self.binary("mul", high, y), rounded)

    def mulr30(self, x: Tensor, y: Tensor) -> Tensor:
        x_high, x_low = self.halves(x)
        y_high, y_low = self.halves(y)
        cross = self.binary("add", self.binary("mul", x_high, y_low), self.binary("mul", x_low, y_high))
        low = self.binary("mul", x_low, y_low)
        low = self.binary("arithmetic_right_shift", low, self.scalar(15, low))
        return self.binary("add", self.binary("mul", x_high, y_high), self.round15(self.binary("add", cross, low)))

    def rescale(self, x: Tensor, multiplier: int, shift: int) -> Tensor:
        """(x · multiplier + 2^(shift-1)) >> shift as int32: a 32-bit multiplier for int32, a 16-bit one for int48."""
        scale32 = x[2] == "int32"
        factor = self.constant([multiplier], (1,), "int32" if scale32 else "int16")
        zeros = [self.constant([0], (1,), x[2]), self.constant([0], (1,), "int32")]
        args = [x, factor, self.constant([shift], (1,), "int8"), *zeros]
        single = self.ts.RoundingMode.SINGLE_ROUND
        return self.emit("RESCALE", "Rescale", args, x[1], "int32", scale32, single, False, False, False)

    def matmul(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        batch, columns, k = w[1]
        turned = self.emit("TRANSPOSE", "Transpose", [w], (batch, k, columns), w[2], [0, 2, 1])
        zero = self.constant([0], (1,), "int16")
        wide = self.emit("MATMUL", "MatMul", [x, turned, zero, zero], (batch, x[1][1], columns), "int48")
        return self.rescale(wide, 1 << 14, 14 + shift)

    def masked(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """SELECT without SELECT: y ^ ((x ^ y) & mask), the mask being all ones where the condition holds."""
        ones = self.emit("CAST", "Cast", [condition], condition[1], "int32")
        mask = self.binary("sub", self.scalar(0, ones), ones)
        return self.binary("bitwise_xor", y, self.binary("bitwise_and", self.binary("bitwise_xor", x, y), mask))

    def reduce_max(self, x: Tensor, axis: int) -> Tensor:
        """Over the last axis, that axis first changes places with the one before it that has elements: the NPU reduces
        a middle axis 8 times faster, and what made x can often write it that way at no cost.
        """
        shape = list(x[1])
        reduced = [1 if k == axis else n for k, n in enumerate(shape)]
        rows = [k for k, n in enumerate(shape[:axis]) if n > 1]
        propagate = self.ts.NanPropagationMode.PROPAGATE
        if axis < len(shape) - 1 or not rows or shape[axis] == 1:
            return self.emit("REDUCE_MAX", "ReduceMax", [x], reduced, x[2], axis, propagate)
        order = list(range(len(shape)))
        order[rows[-1]], order[axis] = axis, rows[-1]
        turned = [shape[k] for k in order]
        x = self.emit("TRANSPOSE", "Transpose", [x], turned, x[2], order)
        top = [1 if k == rows[-1] else n for k, n in enumerate(turned)]
        return self.reshape(self.emit("REDUCE_MAX", "ReduceMax", [x], top, x[2], rows[-1], propagate), reduced)

    def shape_constant(self, sizes: Sequence[int]) -> Tensor:
        return self.constant(sizes, (len(sizes),), "shape")

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self.emit("RESHAPE", "Reshape", [x, self.shape_constant(shape)], shape, x[2])

    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        count, width = indices[1][0], values[1][1]
        batched = [self.reshape(values, (1, *values[1])), self.reshape(indices, (1, count))]
        return self.reshape(self.emit("GATHER", "Gather", batched, (1, count, width), values[2]), (count, width))

    def operator(self, node: Node) -> Tensor:
        """The operator's result; `layout` has those that move or name elements."""
        args = [self.tensors[a.id] for a in node.args]
        shape, dtype, attributes = node.shape, node.dtype, node.attributes
        match node.operator:
            case "select" if self.faults.selects_wrong_shape(node):
                return self.masked(*args)
            case "abs" | "clz" | "cast" | "select":
                return self.emit(node.operator.upper(), node.operator.title(), args, shape, dtype)
            case "mulr15":
                return self.mulr15(*args)
            case "mulr30":
                return self.mulr30(*args)
            case "mulc":
                return self.rescale(args[0], attributes["constant"], 31)
            case "reduce_max":
                if self.faults.reads_whole_tensor(node):
                    args = [self.binary("maximum", args[0], self.scalar(-(2**31), args[0]))]
                return self.reduce_max(args[0], attributes["axis"])
            case "reduce_sum":
                return self.emit("REDUCE_SUM", "ReduceSum", args, shape, dtype, attributes["axis"])
            case "table":
                entries = self.constant(attributes["entries"], (len(attributes["entries"]),), "int16")
                return self.emit("TABLE", "Table", [*args, entries], shape, dtype)
            case "matmul":
                return self.matmul(args[0], args[1], attributes["shift"])
        return self.layout(node, args) if node.operator in _LAYOUT else self.binary(node.operator, *args)

    def layout(self, node: Node, args: list[Tensor]) -> Tensor:
        shape, dtype, attributes = node.shape, node.dtype, node.attributes
        match node.operator:
            case "const":
                return self.constant([attributes["value"]], shape, dtype)
            case "iota":
                return self.constant(range(shape[attributes["axis"]]), shape, dtype)
            case "reshape":
                return self.reshape(args[0], shape)
            case "transpose":
                return self.emit("TRANSPOSE", "Transpose", args, shape, dtype, list(attributes["permutation"]))
            case "slice":
                place = [self.shape_constant(attributes["start"]), self.shape_constant(shape)]
                return self.emit("SLICE", "Slice", [*args, *place], shape, dtype)
            case "concat":
                return self.emit("CONCAT", "Concat", args, shape, dtype, attributes["axis"])
        return self.gather(*args)

    # ------------------------------------------------------------------------------------------------------- program

    def write(self) -> bytes:
        for node in self.trace.inputs:
            name = f"in{node.attributes['index']}"
            self.file.addInputTensor(self.ts.TosaSerializerTensor(name, list(node.shape), self.dtype(node.dtype)))
            self.tensors[node.id] = (name, node.shape, node.dtype)
        for node in self.trace.live_nodes():
            if node.operator != "input":
                self.node = node
                self.tensors[node.id] = self.operator(node)
        taken = {self.tensors[node.id][0] for node in self.trace.inputs}
        for node in self.trace.outputs:
            tensor = self.tensors[node.id]
            if tensor[0] in taken or tensor in self.constants.values() or self.faults.leaves_out(node):
                tensor = self.emit("IDENTITY", "Identity", [tensor], tensor[1], tensor[2])
            taken.add(tensor[0])
            self.file.currRegion.currBasicBlock.addOutput(tensor[0])
        return bytes(self.file.serialize())


def serialise_with_origins(trace: Trace) -> tuple[bytes, dict[str, Node]]:
    """The program as `serialise` gives it, and the recorded operator that each of its tensors comes from, by name."""
    writer = Writer(trace)
    return writer.write(), writer.origins


def serialise(trace: Trace) -> bytes:
    """The program as a TOSA flatbuffer; inputs and outputs in the trace's order. The same trace gives the same bytes.

    TargetError if tosa-tools is not installed.
    """
    return serialise_with_origins(trace)[0]
