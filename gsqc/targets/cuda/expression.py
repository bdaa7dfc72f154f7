# SPDX-License-Identifier: Apache-2.0
"""Expressions in CUDA C, as text: indices and operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsqc.numerics.operators.trace import Operator

C_TYPES = {"bool": "bool", "int8": "int8_t", "int16": "int16_t", "int32": "int"}


@dataclass(frozen=True)
class C:
    """A C expression that stands in parentheses where it needs them."""

    text: str

    def __str__(self) -> str:
        """The C text."""
        return self.text

    def __add__(self, other: C | int) -> C:
        """The sum. Nothing is written for 0, here and below: the source is meant to be read."""
        other = number(other) if isinstance(other, int) else other
        if self == ZERO or other == ZERO:
            return other if self == ZERO else self
        return C(f"({self} + {other})")

    def __sub__(self, other: C) -> C:
        """The difference."""
        return self if other == ZERO else C(f"({self} - {other})")

    def __mul__(self, other: C) -> C:
        """The product."""
        if ZERO in (self, other):
            return ZERO
        return self if other == ONE else C(f"({self} * {other})")

    def __lt__(self, other: C) -> C:
        """The comparison."""
        return C(f"({self} < {other})")

    def divided(self, by: int) -> C:
        """self / by, for values that are not negative."""
        return self if by == 1 else C(f"({self} / {by})")

    def remainder(self, by: int) -> C:
        """self % by, for values that are not negative."""
        return ZERO if by == 1 else C(f"({self} % {by})")

    def scaled(self, factor: int) -> C:
        """The product with a constant."""
        return self * number(factor)


def number(value: int) -> C:
    """A literal."""
    # C reads -2147483648 as the negative of a number that does not fit int.
    if value == -(2**31):
        return C("(-2147483647 - 1)")
    return C(str(value) if value >= 0 else f"({value})")


ZERO, ONE = C("0"), C("1")

# A function here is CUDA's own, or one of device/arithmetic.cuh. Where an operator of C stands, it
# cannot overflow: the numpy evaluator asserts that on every case.
_FORMS = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "({} * {})",
    "mulr15": "rounding_product({}, {}, 15)",
    "mulr30": "rounding_product({}, {}, 30)",
    "minimum": "min({}, {})",
    "maximum": "max({}, {})",
    "abs": "abs({})",
    "clz": "__clz({})",
    "rotate": "rotated({})",
    "bitwise_and": "({} & {})",
    "bitwise_or": "({} | {})",
    "bitwise_xor": "({} ^ {})",
    "logical_left_shift": "left_shift({}, {})",
    "logical_right_shift": "logical_right_shift({}, {})",
    "arithmetic_right_shift": "({} >> {})",
    "arithmetic_right_shift_round": "round_shift({}, {})",
    "greater": "({} > {})",
    "equal": "({} == {})",
    "select": "({} ? {} : {})",
}


def operation(node: Operator, args: Sequence[C], table: str = "") -> C:
    """An element-wise operator on its operands; `table` names the data of a lookup."""
    if node.operator == "cast":
        return C(f"({C_TYPES[node.dtype]}){args[0]}")
    if node.operator == "mulc":
        return C(f"rounding_product({args[0]}, {node.attributes['constant']}, 31)")
    if node.operator == "table":
        return C(f"table_lookup({args[0]}, {table})")
    return C(_FORMS[node.operator].format(*args))
