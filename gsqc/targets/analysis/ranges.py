# SPDX-License-Identifier: Apache-2.0
"""Intervals of recorded values: they prove that a rounding shift may add before it shifts.

A rounding shift adds half a unit first, and that sum may overflow. The form that cannot overflow
costs three operators more. Most operands are small enough, which interval arithmetic can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gsqc.numerics.operators.hadamard import ROTATED
from gsqc.numerics.operators.trace import Operator

Interval = tuple[int, int]
_LIMITS = {
    "bool": (0, 1),
    "int8": (-128, 127),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
}
_FULL = _LIMITS["int32"]


def _corners(function: Callable[[int, int], int], a: Interval, b: Interval) -> Interval:
    # For functions that are monotonic in each argument: the extremes are at the corners.
    values = [function(x, y) for x in a for y in b]
    return min(values), max(values)


def _amount(x: Interval) -> Interval:
    """A shift's amount: in [0, 31] by the operator's contract."""
    return min(max(x[0], 0), 31), min(max(x[1], 0), 31)


def _bits(x: Interval, y: Interval) -> Interval:
    """The range of or, xor: as many bits as the larger operand has."""
    if x[0] < 0 or y[0] < 0:
        return _FULL
    return 0, (1 << max(x[1], y[1]).bit_length()) - 1


def _and(x: Interval, y: Interval) -> Interval:
    """The range of and: a non-negative operand masks the other one."""
    upper = [high for low, high in (x, y) if low >= 0]
    return (0, min(upper)) if upper else _FULL


def _rounded(shift: int, x: Interval, y: Interval) -> Interval:
    """The range of (x·y + half) >> shift, which the operator's contract keeps within 2^30."""
    low, high = _corners(lambda a, b: a * b, x, y)
    half = 1 << (shift - 1)
    return max((low + half) >> shift, -(2**30)), min((high + half) >> shift, 2**30)


_BINARY: dict[str, Callable[[Interval, Interval], Interval]] = {
    "add": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "sub": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "mul": lambda x, y: _corners(lambda a, b: a * b, x, y),
    "mulr15": lambda x, y: _rounded(15, x, y),
    "mulr30": lambda x, y: _rounded(30, x, y),
    "minimum": lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    "maximum": lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "bitwise_and": _and,
    "bitwise_or": _bits,
    "bitwise_xor": _bits,
    "logical_left_shift": lambda x, n: _corners(lambda a, b: a << b, x, _amount(n)),
    # The pattern of a negative number is a large one.
    "logical_right_shift": lambda x, n: (
        _corners(lambda a, b: a >> b, x, _amount(n)) if x[0] >= 0 else _FULL
    ),
    "arithmetic_right_shift": lambda x, n: _corners(lambda a, b: a >> b, x, _amount(n)),
    "arithmetic_right_shift_round": lambda x, n: _corners(
        lambda a, b: (a + (1 << b >> 1)) >> b, x, _amount(n)
    ),
}


def _largest_size(x: Interval) -> int:
    return max(abs(x[0]), abs(x[1]))


def _other(node: Operator, args: list[Interval]) -> Interval:
    operator = node.operator
    if operator == "const":
        value = node.attributes["value"]
        return value, value
    if operator == "iota":
        return 0, max(node.shape) - 1
    if operator == "clz":
        return 0, 32
    if operator == "abs":
        return 0, _largest_size(args[0])
    if operator == "mulc":
        return _rounded(31, args[0], (0, node.attributes["constant"]))
    if operator == "table":
        entries = node.attributes["entries"]
        # A table interpolates between neighbours: it never leaves the range of its entries.
        return min(entries) << 7, max(entries) << 7
    if operator == "rotate":
        most = ROTATED * _largest_size(args[0])
        return -most, most
    if operator == "reduce_sum":
        count = node.args[0].shape[node.attributes["axis"]]
        return args[0][0] * count, args[0][1] * count
    if operator in ("select", "concat"):
        values = args[1:] if operator == "select" else args
        return min(v[0] for v in values), max(v[1] for v in values)
    if operator in ("reduce_max", "cast", "reshape", "transpose", "slice", "gather"):
        return args[0]
    return _LIMITS[node.dtype]


class Ranges:
    """`ranges[node]`: an interval that holds every value of the node."""

    def __init__(self, nodes: list[Operator]) -> None:
        """Take the nodes of a trace, operands first."""
        self._of: dict[int, Interval] = {}
        for node in nodes:
            args = [self._of[a.id] for a in node.args]
            binary = _BINARY.get(node.operator)
            low, high = binary(args[0], args[1]) if binary else _other(node, args)
            # What leaves the dtype does not happen: the numpy evaluator asserts it on every case.
            least, most = _LIMITS[node.dtype]
            self._of[node.id] = min(max(low, least), most), max(min(high, most), least)

    def __getitem__(self, node: Any) -> Interval:
        """The interval of a node."""
        return self._of[node.id]

    def may_add_half(self, x: Operator, amount: Operator) -> bool:
        """Whether x + 2^(amount-1) fits int32 for every value of both."""
        most = _amount(self[amount])[1]
        return self[x][1] + (1 << most >> 1) <= _FULL[1]
