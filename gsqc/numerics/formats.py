# SPDX-License-Identifier: Apache-2.0
"""Number formats: what the integers of a tensor mean.

A value is a small structure of integer tensors. The same classes hold numpy arrays, recorded
tensors, and shapes alone (`Spec`), so that one op function serves evaluation, lowering and type
inference.

GSQ-Tuning (arXiv 2502.12913, section 3.1) calls GSE "Group-Shared Exponents Integer".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsqc.numerics.operators.builder import Tensor

GROUP = 32
LEAST_EXPONENT = -120
"""The exponent of a zero row; a value underflows gradually below it."""


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a tensor that has no data yet."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count * {"int8": 1, "int16": 2, "int32": 4, "bool": 1}[self.dtype]


@dataclass(frozen=True)
class Row:
    """Row-w: w-bit mantissas with a shared exponent per row; value = m · 2^e.

    m  [..., n]  |m| ≤ 2^(bits-1) - 1, int16 if bits ≤ 16, else int32
    e  int32, broadcasts against m: [..., 1] for one exponent per row, [..., 1, n] after a transpose
    """

    m: Any
    e: Any
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.m.shape)

    @property
    def mantissa(self) -> Tensor:
        """The mantissa in the working type."""
        return self.m.cast("int32")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Gse:
    """GSE-b: b-bit mantissas, 32 of which share an exponent; value = m · 2^(e - d).

    m  int8 [..., n]     |m| ≤ 2^(b-1) - 1, no implicit leading one; n is a multiple of 32
    d  int8 [..., n/32]  distance of the group's exponent below the row's, 0 ≤ d ≤ 16 - b
    e  int32 [..., 1]    the row's exponent, the largest of its groups
    """

    m: Any
    d: Any
    e: Any
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.m.shape)


Value = Any
"""A Row, a Gse, a bare tensor, or a Codes (gsqc.numerics.ops.dequantise): anything that `flatten`
takes.
"""


def largest(bits: int) -> int:
    """The largest mantissa of `bits` bits."""
    return int((1 << (bits - 1)) - 1)


def row_dtype(bits: int) -> str:
    """Storage type of a Row's mantissas."""
    return "int16" if bits <= 16 else "int32"


_FIELDS: dict[type, tuple[str, ...]] = {Row: ("m", "e"), Gse: ("m", "d", "e")}


def flatten(value: Value) -> list[Any]:
    """The tensors of a value, in the order in which a program takes them."""
    if isinstance(value, tuple | list):
        return [t for v in value for t in flatten(v)]
    fields = _FIELDS.get(type(value))
    return [value] if fields is None else [getattr(value, f) for f in fields]


def map_tensors(value: Value, function: Callable[[Any], Any]) -> Value:
    """The same structure with `function` applied to each tensor."""
    if isinstance(value, tuple | list):
        return tuple(map_tensors(v, function) for v in value)
    fields = _FIELDS.get(type(value))
    if fields is None:
        return function(value)
    return type(value)(*(function(getattr(value, f)) for f in fields), value.bits)


def field_names(value: Value) -> tuple[str, ...]:
    """Suffixes that name the tensors of a value: ("m", "e") for a Row, ("",) for a bare tensor."""
    return _FIELDS.get(type(value), ("",))


def to_spec(value: Value) -> Value:
    """The same structure with shapes and dtypes only."""
    return map_tensors(value, lambda t: Spec(tuple(t.shape), str(t.dtype)))


def describe(value: Value) -> str:
    """The value's type in graph notation: gse8[256,576], row16[256,576], int32[256]."""
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(v) for v in value) + ")"
    kind = {Row: "row", Gse: "gse"}.get(type(value))
    name = str(value.dtype) if kind is None else f"{kind}{value.bits}"
    return f"{name}[{','.join(str(n) for n in value.shape)}]"
