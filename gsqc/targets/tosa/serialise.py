# SPDX-License-Identifier: Apache-2.0
"""Serialisation: a recorded program as a TOSA 1.0 flatbuffer, profile PRO-INT with the extension
EXT-INT16.

Every operator of the builder is the TOSA operator of that name, apart from

    mulr15, mulr30, matmul, rotate   written as products.py says
    mulc(x, c)                       RESCALE with scale32, multiplier c and shift 31
    iota                             a constant

What reads a program may get some forms wrong. `Forms` says which operators are therefore written in
another form of the same meaning. A CAST to a narrower type is written as it is: the value fits by
the builder's contract, which numpy asserts. The package tosa-tools (the extra `npu`) is needed.
"""

from __future__ import annotations

import math
from functools import cached_property

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.ranges import Ranges
from gsqc.targets.programs import Forms
from gsqc.targets.tosa.products import Products
from gsqc.targets.tosa.tosa_file import Tensor

LEAST_HALF = 8
"""Elements below which REDUCE_MAX is cheaper than another MAXIMUM."""

_LAYOUT = ("const", "iota", "reshape", "transpose", "slice", "concat", "gather")


def _halves(n: int) -> bool:
    """Whether an axis of n elements is reduced by halves."""
    return n % 2 == 0 and n >= 2 * LEAST_HALF


class Writer(Products):
    """Writes the operators of a recorded program."""

    def __init__(self, trace: Trace, forms: type[Forms] = Forms) -> None:
        super().__init__()
        self.trace = trace
        self.tensors: dict[int, Tensor] = {}
        self.forms = forms(trace)

    def masked(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """SELECT in bitwise operators: y ^ ((x ^ y) & mask), where the mask is all ones if the
        condition holds.
        """
        # 0 - 1 is the pattern of all ones, 0 - 0 that of none.
        ones = self.emit("CAST", "Cast", [condition], condition[1], "int32")
        mask = self.binary("sub", self.scalar(0, ones), ones)
        return self.binary(
            "bitwise_xor", y, self.binary("bitwise_and", self.binary("bitwise_xor", x, y), mask)
        )

    def larger_half(self, x: Tensor) -> Tensor:
        """The larger of the two halves of the last axis."""
        *lead, n = x[1]
        size = self.shape_constant([*lead, n // 2])
        starts = [self.shape_constant([*(0 for _ in lead), start]) for start in (0, n // 2)]
        return self.binary(
            "maximum",
            *(self.emit("SLICE", "Slice", [x, s, size], (*lead, n // 2), x[2]) for s in starts),
        )

    def reduce_max(self, x: Tensor, axis: int) -> Tensor:
        """The maximum over an axis, in the form that is fastest on the NPU.

        The last axis is halved with MAXIMUM down to LEAST_HALF elements. What is left changes
        places with the axis before it.
        """
        reduced = tuple(1 if k == axis else n for k, n in enumerate(x[1]))
        if axis == len(reduced) - 1 and _halves(x[1][axis]):
            # The NPU's maps have three axes.
            x = self.reshape(x, (math.prod(x[1][:-2]), *x[1][-2:])) if len(reduced) > 3 else x
            while _halves(x[1][-1]):
                x = self.larger_half(x)
            return self.reshape(self.reduce_max(x, len(x[1]) - 1), reduced)
        # With nothing to change places with, the axis is reduced where it is.
        rows = [k for k, n in enumerate(x[1][:axis]) if n > 1]
        propagate = self.ts.NanPropagationMode.PROPAGATE
        if axis < len(reduced) - 1 or not rows or x[1][axis] == 1:
            return self.emit("REDUCE_MAX", "ReduceMax", [x], reduced, x[2], axis, propagate)
        # The NPU reduces a middle axis 8 times faster than the last one. What made x can often
        # write it transposed at no cost.
        order = list(range(len(reduced)))
        order[rows[-1]], order[axis] = axis, rows[-1]
        turned = [x[1][k] for k in order]
        x = self.emit("TRANSPOSE", "Transpose", [x], turned, x[2], order)
        top = [1 if k == rows[-1] else n for k, n in enumerate(turned)]
        return self.reshape(
            self.emit("REDUCE_MAX", "ReduceMax", [x], top, x[2], rows[-1], propagate), reduced
        )

    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        """Rows of `values` by their numbers."""
        # TOSA's GATHER wants a batch axis, which has one element here.
        count, width = indices[1][0], values[1][1]
        batched = [self.reshape(values, (1, *values[1])), self.reshape(indices, (1, count))]
        return self.reshape(
            self.emit("GATHER", "Gather", batched, (1, count, width), values[2]), (count, width)
        )

    @cached_property
    def ranges(self) -> Ranges:
        """The intervals of all values."""
        return Ranges(self.trace.live_nodes())

    def rotated(self, node: Operator) -> Tensor:
        """The rotation: of one int16 tensor if the operand fits."""
        x = node.args[0]
        low, high = self.ranges[x]
        if low < -(2**15) or high >= 2**15:
            return self.rotate(self.tensors[x.id])
        # Where x was widened, what it was widened from is used. Reshapes do not matter.
        origin = x
        while origin.dtype == "int32" and origin.operator in ("cast", "reshape"):
            origin = origin.args[0]
        narrow = origin.dtype == "int16"
        given = self.tensors[origin.id] if narrow else self.narrowed(self.tensors[x.id])
        return self.reshape(self.rotate16(given), node.shape)

    def operator(self, node: Operator) -> Tensor:
        """The operator's result. `layout` has the operators that move or name elements."""
        args = [self.tensors[a.id] for a in node.args]
        shape, dtype, attributes = node.shape, node.dtype, node.attributes
        match node.operator:
            case "select" if self.forms.masks(node):
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
                if self.forms.guards(node):
                    # The maximum with the least number is a copy.
                    args = [self.binary("maximum", args[0], self.scalar(-(2**31), args[0]))]
                return self.reduce_max(args[0], attributes["axis"])
            case "reduce_sum":
                return self.emit("REDUCE_SUM", "ReduceSum", args, shape, dtype, attributes["axis"])
            case "table":
                entries = self.constant(
                    attributes["entries"], (len(attributes["entries"]),), "int16"
                )
                return self.emit("TABLE", "Table", [*args, entries], shape, dtype)
            case "matmul":
                return self.matmul(args[0], args[1], attributes["shift"])
            case "rotate":
                return self.rotated(node)
        return (
            self.layout(node, args)
            if node.operator in _LAYOUT
            else self.binary(node.operator, *args)
        )

    def layout(self, node: Operator, args: list[Tensor]) -> Tensor:
        """The result of an operator that moves or names elements."""
        shape, dtype, attributes = node.shape, node.dtype, node.attributes
        match node.operator:
            case "const":
                return self.constant([attributes["value"]], shape, dtype)
            case "iota":
                return self.constant(range(shape[attributes["axis"]]), shape, dtype)
            case "reshape":
                return self.reshape(args[0], shape)
            case "transpose":
                return self.emit(
                    "TRANSPOSE", "Transpose", args, shape, dtype, list(attributes["permutation"])
                )
            case "slice":
                place = [self.shape_constant(attributes["start"]), self.shape_constant(shape)]
                return self.emit("SLICE", "Slice", [*args, *place], shape, dtype)
            case "concat":
                return self.emit("CONCAT", "Concat", args, shape, dtype, attributes["axis"])
        return self.gather(*args)

    def write(self) -> bytes:
        """Write inputs, operators and outputs, and give the file's bytes."""
        for node in self.trace.inputs:
            name = f"in{node.attributes['index']}"
            self.file.addInputTensor(
                self.ts.TosaSerializerTensor(name, list(node.shape), self.dtype(node.dtype))
            )
            self.tensors[node.id] = (name, node.shape, node.dtype)
        for node in self.trace.live_nodes():
            if node.operator != "input":
                # `emit` notes it as the origin of every tensor that the operator becomes.
                self.node = node
                self.tensors[node.id] = self.operator(node)
        # An output must be a tensor of its own: not an input, a constant, or one given twice.
        taken = {self.tensors[node.id][0] for node in self.trace.inputs}
        for node in self.trace.outputs:
            tensor = self.tensors[node.id]
            if tensor[0] in taken or tensor in self.constants.values() or self.forms.copies(node):
                tensor = self.emit("IDENTITY", "Identity", [tensor], tensor[1], tensor[2])
            taken.add(tensor[0])
            self.file.currRegion.currBasicBlock.addOutput(tensor[0])
        return bytes(self.file.serialize())


def serialise_with_origins(
    trace: Trace, forms: type[Forms] = Forms
) -> tuple[bytes, dict[str, Operator]]:
    """The program as `serialise` gives it, and for the name of each of its tensors the recorded
    operator that it comes from.
    """
    writer = Writer(trace, forms)
    return writer.write(), writer.origins


def serialise(trace: Trace, forms: type[Forms] = Forms) -> bytes:
    """The program as a TOSA flatbuffer, with inputs and outputs in the trace's order. The same
    trace gives the same bytes.

    TargetError if tosa-tools is not installed.
    """
    return serialise_with_origins(trace, forms)[0]
