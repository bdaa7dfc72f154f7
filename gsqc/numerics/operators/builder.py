# SPDX-License-Identifier: Apache-2.0
"""The operator builder: the interface that every op of gsqc is written against.

Operators have the names and the meaning of TOSA 1.0, profile PRO-INT with EXT-INT16. An op is a
Python function over a `Builder`. `NumpyBuilder` evaluates it, which gives the golden result.
`TraceBuilder` records it, which gives the program that a target lowers. These rules keep a program
valid on every target:

* The working type is int32. int8 and int16 are for storage and matmul operands. There is no int64.
* MUL has shift 0. The operand is clamped before a narrowing CAST. Shapes are static.
* Nothing overflows, because overflow is undefined in compiled code. `NumpyBuilder` asserts it.
* Broadcasting is between tensors of equal rank.

Three rounding products are operators of ours: mulr15, mulr30 and mulc. A 64-bit product computes
each in one step, and TOSA programs write it as a few int32 operators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

DTYPES = ("bool", "int8", "int16", "int32")
TABLE_ENTRIES = 513


class Tensor:
    """A tensor of one builder, and the operators that may be applied to it.

    dtype  one of DTYPES
    data   what the builder keeps for it: an array of numpy, or the recorded operator
    """

    __slots__ = ("builder", "data", "dtype", "shape")

    def __init__(self, builder: Builder, shape: Sequence[int], dtype: str, data: Any) -> None:
        self.builder = builder
        self.shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self.data = data

    def _binary(self, operator: str, other: Tensor | int) -> Tensor:
        return self.builder.elementwise(operator, self, self.lift(other))

    def lift(self, other: Tensor | int) -> Tensor:
        """The other operand as a tensor. An int becomes a constant of this tensor's rank."""
        return other if isinstance(other, Tensor) else self.builder.const(other, len(self.shape))

    def __add__(self, other: Tensor | int) -> Tensor:
        return self._binary("add", other)

    __radd__ = __add__

    def __sub__(self, other: Tensor | int) -> Tensor:
        return self._binary("sub", other)

    def __rsub__(self, other: int) -> Tensor:
        return self.lift(other)._binary("sub", self)

    def __mul__(self, other: Tensor | int) -> Tensor:
        return self._binary("mul", other)

    __rmul__ = __mul__

    def __neg__(self) -> Tensor:
        return 0 - self

    def __and__(self, other: Tensor | int) -> Tensor:
        return self._binary("bitwise_and", other)

    def __or__(self, other: Tensor | int) -> Tensor:
        return self._binary("bitwise_or", other)

    def __xor__(self, other: Tensor | int) -> Tensor:
        return self._binary("bitwise_xor", other)

    def __lshift__(self, amount: Tensor | int) -> Tensor:
        return self._binary("logical_left_shift", amount)

    def __rshift__(self, amount: Tensor | int) -> Tensor:
        """Arithmetic right shift by [0, 31], rounded towards minus infinity."""
        return self._binary("arithmetic_right_shift", amount)

    def round_shift(self, amount: Tensor | int) -> Tensor:
        """Arithmetic right shift by [0, 31], rounded half up."""
        return self._binary("arithmetic_right_shift_round", amount)

    def logical_shift(self, amount: Tensor | int) -> Tensor:
        """Right shift of the unsigned pattern by [0, 31]."""
        return self._binary("logical_right_shift", amount)

    def maximum(self, other: Tensor | int) -> Tensor:
        """The larger of the two, element by element."""
        return self._binary("maximum", other)

    def minimum(self, other: Tensor | int) -> Tensor:
        """The smaller of the two, element by element."""
        return self._binary("minimum", other)

    def clamp(self, low: Tensor | int, high: Tensor | int) -> Tensor:
        """The nearest number in [low, high]."""
        return self.maximum(low).minimum(high)

    def greater(self, other: Tensor | int) -> Tensor:
        """Whether this one is the greater, as bool."""
        return self._binary("greater", other)

    def equal(self, other: Tensor | int) -> Tensor:
        """Whether both are equal, as bool."""
        return self._binary("equal", other)

    def abs(self) -> Tensor:
        """The magnitude. The least int32 has none."""
        return self.builder.elementwise("abs", self)

    def clz(self) -> Tensor:
        """The number of leading zeros of a non-negative int32: 32 for zero."""
        return self.builder.elementwise("clz", self)

    def mulr15(self, other: Tensor | int) -> Tensor:
        """(a·b + 2^14) >> 15, for |a| ≤ 2^30 and |b| ≤ 2^15."""
        return self._binary("mulr15", other)

    def mulr30(self, other: Tensor | int) -> Tensor:
        """(a·b + 2^29) >> 30, for |a| and |b| ≤ 2^30."""
        return self._binary("mulr30", other)

    def mulc(self, constant: int) -> Tensor:
        """(x·constant + 2^30) >> 31, for x in [-2^30, 2^30) and a constant in [0, 2^31)."""
        return self.builder.mulc(self, constant)

    def reduce_max(self, axis: int = -1) -> Tensor:
        """The largest along an axis, which stays with size 1."""
        return self.builder.reduce("reduce_max", self, axis % len(self.shape))

    def reduce_sum(self, axis: int = -1) -> Tensor:
        """The sum along an axis, which stays with size 1."""
        return self.builder.reduce("reduce_sum", self, axis % len(self.shape))

    def rotate(self) -> Tensor:
        """Each 32 numbers of the last axis, multiplied by the Hadamard matrix."""
        return self.builder.rotate(self)

    def reshape(self, *shape: int) -> Tensor:
        """The same elements in another shape."""
        return self if shape == self.shape else self.builder.reshape(self, shape)

    def transpose(self, *permutation: int) -> Tensor:
        """The axes in another order: axis k of the result is axis permutation[k]."""
        return self.builder.transpose(self, permutation)

    def slice(self, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """The part of the given size that begins at `start`, a number for each axis."""
        return self.builder.slice(self, start, size)

    def cast(self, dtype: str) -> Tensor:
        """The same numbers in another type, which must hold them."""
        return self if dtype == self.dtype else self.builder.cast(self, dtype)


class Builder(ABC):
    """What an implementation provides. Ops use the methods of `Tensor`, and `where`."""

    @abstractmethod
    def const(self, value: int, rank: int) -> Tensor:
        """An int32 constant of `rank` dimensions of size 1."""

    @abstractmethod
    def iota(self, shape: Sequence[int], axis: int) -> Tensor:
        """The index along `axis`, as an int32 constant. The other sizes of `shape` are 1."""

    @abstractmethod
    def elementwise(self, operator: str, *args: Tensor) -> Tensor:
        """An operator of ELEMENTWISE on int32. Comparisons give bool, select takes one first."""

    @abstractmethod
    def mulc(self, x: Tensor, constant: int) -> Tensor:
        """(x·constant + 2^30) >> 31: TOSA's RESCALE with scale32, SINGLE_ROUND and shift 31.

        x int32 in [-2^30, 2^30), constant in [0, 2^31)
        """

    @abstractmethod
    def reduce(self, operator: str, x: Tensor, axis: int) -> Tensor:
        """reduce_max or reduce_sum of int32 along one axis, which stays with size 1."""

    @abstractmethod
    def rotate(self, x: Tensor) -> Tensor:
        """H·x for each row of x int32 [..., 32], |x| < 2^26, with `hadamard.HADAMARD`."""

    @abstractmethod
    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """The numbers of x in another integer type, which must hold them."""

    @abstractmethod
    def table(self, x: Tensor, entries: Sequence[int]) -> Tensor:
        """TOSA's TABLE: x int16, 513 entries of int16 -> (entry << 7) + slope·fraction, int32.

        The upper 9 bits of x choose the entry, the lower 7 are the fraction on the way to the next.
        """

    @abstractmethod
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in another shape, of any type."""

    @abstractmethod
    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """The axes in another order: axis k of the result is axis permutation[k] of x."""

    @abstractmethod
    def slice(self, x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """The part [start, start + size) of x, a number for each axis."""

    @abstractmethod
    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors of one type behind each other along an axis."""

    @abstractmethod
    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        """values [K, C], indices int32 [W] in [0, K) -> [W, C]: TOSA's GATHER with batch 1."""

    @abstractmethod
    def matmul(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        """x int16 [N, M, K], w int16 [N, C, K] -> (Σ_k x·w + 2^(shift-1)) >> shift int32 [N, M, C].

        In TOSA: a TRANSPOSE of w, a MATMUL with a 48-bit accumulator, and a RESCALE by 2^-shift.
        """


ARITHMETIC = ("add", "sub", "mul", "mulr15", "mulr30", "minimum", "maximum", "abs", "clz")
BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor")
SHIFTS = (
    "logical_left_shift",
    "logical_right_shift",
    "arithmetic_right_shift",
    "arithmetic_right_shift_round",
)
COMPARISONS = ("greater", "equal")
ELEMENTWISE = (*ARITHMETIC, *BITWISE, *SHIFTS, *COMPARISONS, "select")


def where(condition: Tensor, x: Tensor | int, y: Tensor | int) -> Tensor:
    """TOSA's SELECT: x where the condition (bool) holds, else y."""
    return condition.builder.elementwise("select", condition, condition.lift(x), condition.lift(y))
