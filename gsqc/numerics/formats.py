# SPDX-License-Identifier: Apache-2.0
"""Number formats: what the integers of a tensor mean.

A value is a small structure of integer tensors. The same classes hold numpy arrays, recorded
tensors, and shapes alone (`Spec`). So one function of an op serves evaluation, lowering and type
inference. docs/number-format.md says why the formats are as they are.

GSE is the "Group-Shared Exponents Integer" of GSQ-Tuning (arXiv 2502.12913, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsqc.numerics.operators.builder import Tensor
from gsqc.numerics.operators.hadamard import ROTATED

GROUP = ROTATED
"""Numbers of a GSE row that share a scale, and are rotated together."""
WINDOW = 8
"""Octaves below the largest group of its row at which a group's scale stays."""
SCALES = {4: 4, 5: 4, 6: 2, 7: 1, 8: 1}
"""Scales an octave, n, by the bits of a mantissa: c·2^k with c = 1, (n + 1)/n, … (2n - 1)/n."""
ROTATION_SHIFT = ROTATED.bit_length() - 1
"""Both operands of a product are rotated, which multiplies it by 2^5."""
LEAST_EXPONENT = -120
"""The exponent of a zero row. Mantissas of smaller numbers lose bits, as floats do below normal."""


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a tensor that has no data yet.

    dtype  "int8", "int16", "int32" or "bool"
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """What the tensor takes in memory, in bytes."""
        count = 1
        for n in self.shape:
            count *= n
        return count * {"int8": 1, "int16": 2, "int32": 4, "bool": 1}[self.dtype]


@dataclass(frozen=True)
class Row:
    """Row-w: mantissas of w bits that share an exponent per row. The value is m · 2^e.

    m     [..., n]  |m| ≤ 2^(bits-1) - 1, of the type `row_dtype(bits)`
    e     int32, broadcasts against m: [..., 1] for one exponent per row, [..., 1, n] after a
          transpose
    bits  w, with the sign: 16 to 30, 8 for the values of attention, and 31 for a scalar in
          [2^29, 2^30)
    """

    m: Any
    e: Any
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the mantissas."""
        return tuple(self.m.shape)

    @property
    def mantissa(self) -> Tensor:
        """The mantissas as int32, the type that operators work on."""
        return self.m.cast("int32")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Gse:
    """GSE-b: mantissas of b bits, 32 of which share a scale. The value is m · 2^(e - d).

    m     int8 [..., n]     mantissa times step: |mantissa| ≤ 2^(b-1) - 1, one step from n to
                            2n - 1 in a group, n = SCALES[b]; |m| ≤ `largest_operand`; n a multiple
                            of 32
    d     int8 [..., n/32]  distance of the group's octave below the row's, 0 ≤ d ≤ WINDOW
    e     int32 [..., 1]    the row's exponent, the largest of its groups
    bits  b, with the sign: 4 to 8

    The aligned mantissa m << (WINDOW - d), at the exponent e - WINDOW, always fits int16.
    """

    m: Any
    d: Any
    e: Any
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the mantissas."""
        return tuple(self.m.shape)


Value = Any
"""A Row, a Gse, a bare tensor, or a tuple of them: anything that `flatten` takes."""


def largest(bits: int) -> int:
    """The largest mantissa of `bits` bits: 2^(bits-1) - 1."""
    return int((1 << (bits - 1)) - 1)


def largest_operand(bits: int) -> int:
    """The largest |m| of GSE-bits: the largest mantissa times the largest step. 127 or less."""
    return largest(bits) * (2 * SCALES[bits] - 1)


def row_dtype(bits: int) -> str:
    """The type in which a Row of `bits` bits stores its mantissas."""
    return "int8" if bits <= 8 else "int16" if bits <= 16 else "int32"


_FIELDS: dict[type, tuple[str, ...]] = {Row: ("m", "e"), Gse: ("m", "d", "e")}


def flatten(value: Value) -> list[Any]:
    """The tensors of a value, in the order in which a program takes them."""
    if isinstance(value, tuple | list):
        return [t for v in value for t in flatten(v)]
    fields = _FIELDS.get(type(value))
    return [value] if fields is None else [getattr(value, f) for f in fields]


def map_tensors(value: Value, function: Callable[[Any], Any]) -> Value:
    """The value with `function` applied to each tensor. Lists become tuples."""
    if isinstance(value, tuple | list):
        return tuple(map_tensors(v, function) for v in value)
    fields = _FIELDS.get(type(value))
    if fields is None:
        return function(value)
    return type(value)(*(function(getattr(value, f)) for f in fields), value.bits)


def field_names(value: Value) -> tuple[str, ...]:
    """Suffixes of the tensors' names: ("m", "e") for a Row, ("",) for a bare tensor."""
    return _FIELDS.get(type(value), ("",))


def to_spec(value: Value) -> Value:
    """The value with a Spec in place of each tensor."""
    return map_tensors(value, lambda t: Spec(tuple(t.shape), str(t.dtype)))


def describe(value: Value) -> str:
    """The value's type in the notation of graphs: gse8[256,576], row16[256,576], int32[256]."""
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(v) for v in value) + ")"
    kind = {Row: "row", Gse: "gse"}.get(type(value))
    name = str(value.dtype) if kind is None else f"{kind}{value.bits}"
    return f"{name}[{','.join(str(n) for n in value.shape)}]"
