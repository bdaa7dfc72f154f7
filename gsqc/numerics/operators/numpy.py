# SPDX-License-Identifier: Apache-2.0
"""Evaluation with numpy: the golden result. Every operator asserts that its result fits its type.

The assertions raise AssertionError. They find faults in ops, not in a user's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.hadamard import HADAMARD
from gsqc.numerics.operators.shapes import broadcast_shape

Array = npt.NDArray[Any]
_FLOAT64_EXACT = 2.0**53
_HADAMARD = np.array(HADAMARD, np.float64)


def _int32(operator: str, wide: Array) -> Array:
    info = np.iinfo(np.int32)
    assert wide.size == 0 or (wide.min() >= info.min and wide.max() <= info.max), (
        f"{operator} overflows int32: [{wide.min()}, {wide.max()}]"
    )
    return wide.astype(np.int32)


def _within(operator: str, x: Array, low: int, high: int) -> None:
    assert x.size == 0 or (x.min() >= low and x.max() <= high), (
        f"{operator}: operand [{x.min()}, {x.max()}] outside [{low}, {high}]"
    )


def _right_shift(x: Array, n: Array, rounding: bool) -> Array:
    _within("right shift", n, 0, 31)
    shifted = x >> n
    return shifted + ((x >> np.maximum(n - 1, 0)) & np.minimum(n, 1)) if rounding else shifted


def _count_leading_zeros(x: Array) -> Array:
    _within("clz", x, 0, 2**31 - 1)
    return (32 - np.frexp(x.astype(np.float64))[1]).astype(np.int32)


def _rounding_product(operator: str, x: Array, y: Array, shift: int) -> Array:
    _within(operator, x, -(2**30), 2**30)
    _within(operator, y, -(2**shift), 2**shift)
    product = np.multiply(x, y, dtype=np.int64)
    product += 1 << (shift - 1)
    product >>= shift
    return _int32(operator, product)


def _left_shift(x: Array, n: Array) -> Array:
    _within("left shift", n, 0, 31)
    return _int32("logical_left_shift", x.astype(np.int64) << n)


def _logical_right_shift(x: Array, n: Array) -> Array:
    _within("right shift", n, 0, 31)
    return (x.view(np.uint32) >> n.astype(np.uint32)).view(np.int32)


_ELEMENTWISE: dict[str, Any] = {
    "add": lambda x, y: _int32("add", np.add(x, y, dtype=np.int64)),
    "sub": lambda x, y: _int32("sub", np.subtract(x, y, dtype=np.int64)),
    "mul": lambda x, y: _int32("mul", np.multiply(x, y, dtype=np.int64)),
    "mulr15": lambda x, y: _rounding_product("mulr15", x, y, 15),
    "mulr30": lambda x, y: _rounding_product("mulr30", x, y, 30),
    "minimum": np.minimum,
    "maximum": np.maximum,
    "abs": lambda x: _int32("abs", np.abs(x.astype(np.int64))),
    "clz": _count_leading_zeros,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "logical_left_shift": _left_shift,
    "logical_right_shift": _logical_right_shift,
    "arithmetic_right_shift": lambda x, n: _right_shift(x, n, rounding=False),
    "arithmetic_right_shift_round": lambda x, n: _right_shift(x, n, rounding=True),
    "greater": np.greater,
    "equal": np.equal,
    "select": np.where,
}


class NumpyBuilder(Builder):
    """Evaluates each operator at once. `Tensor.data` is the array, of the tensor's dtype."""

    def tensor(self, array: Array) -> Tensor:
        """An array as a tensor of this builder, without a copy."""
        return Tensor(self, array.shape, str(array.dtype), array)

    def const(self, value: int, rank: int) -> Tensor:
        """An int32 array of one element."""
        return self.tensor(np.full((1,) * rank, value, np.int32))

    def iota(self, shape: Sequence[int], axis: int) -> Tensor:
        """An int32 array of the indices along an axis."""
        return self.tensor(np.arange(shape[axis], dtype=np.int32).reshape(tuple(shape)))

    def elementwise(self, operator: str, *args: Tensor) -> Tensor:
        """Arithmetic is done in int64, then checked and narrowed to int32."""
        broadcast_shape(*(a.shape for a in args))
        return self.tensor(_ELEMENTWISE[operator](*(a.data for a in args)))

    def mulc(self, x: Tensor, constant: int) -> Tensor:
        """The product in int64. x must lie in [-2^30, 2^30)."""
        _within("mulc", x.data, -(2**30), 2**30 - 1)
        return self.tensor(_int32("mulc", (x.data.astype(np.int64) * constant + 2**30) >> 31))

    def reduce(self, operator: str, x: Tensor, axis: int) -> Tensor:
        """Sums are taken in int64 and must fit int32."""
        if operator == "reduce_max":
            return self.tensor(x.data.max(axis, keepdims=True))
        return self.tensor(_int32(operator, x.data.sum(axis, keepdims=True, dtype=np.int64)))

    def rotate(self, x: Tensor) -> Tensor:
        """A product with the matrix in float64, which is exact."""
        assert x.shape[-1] == len(_HADAMARD)
        return self.tensor(_int32("rotate", (x.data @ _HADAMARD).astype(np.int64)))

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """The array in another type, in whose range each number must lie."""
        info = np.iinfo(dtype)
        _within(f"cast to {dtype}", x.data, int(info.min), int(info.max))
        return self.tensor(x.data.astype(dtype))

    def table(self, x: Tensor, entries: Sequence[int]) -> Tensor:
        """Interpolates between the two entries next to each number."""
        values = np.asarray(entries, np.int64)
        index = (x.data.astype(np.int64) >> 7) + 256
        fraction = x.data.astype(np.int64) & 127
        base = values[index]
        return self.tensor(_int32("table", (base << 7) + (values[index + 1] - base) * fraction))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """A view where numpy can make one."""
        return self.tensor(x.data.reshape(shape))

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """A view with the axes in another order."""
        return self.tensor(x.data.transpose(permutation))

    def slice(self, x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """A view of the part [start, start + size)."""
        return self.tensor(x.data[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))])

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """A new array of all."""
        return self.tensor(np.concatenate([x.data for x in xs], axis))

    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        """The rows of these indices, each of which must exist."""
        _within("gather", indices.data, 0, values.shape[0] - 1)
        return self.tensor(values.data[indices.data])

    def matmul(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        """Sums in float64, which is exact: each partial sum is an integer below 2^53.

        K may be up to 2^22. The sum must fit the 48-bit accumulator of TOSA's MATMUL.
        """
        assert x.shape[2] * 2.0**30 < _FLOAT64_EXACT
        total = np.matmul(x.data.astype(np.float64), w.data.astype(np.float64).transpose(0, 2, 1))
        wide = total.astype(np.int64)
        assert np.abs(wide).max(initial=0) < 2**47, "matmul overflows its 48-bit accumulator"
        return self.tensor(_int32("rescale", (wide + (1 << (shift - 1))) >> shift))
