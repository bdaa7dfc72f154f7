# SPDX-License-Identifier: Apache-2.0
"""Every unit's RTL is its meaning in each cycle, and a unit with a fault is not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'gsqc[hardware]'")

from amaranth.hdl import Cat, Const, Signal, signed

from hardware.designs import DESIGNS
from hardware.float_formats import E4M3
from hardware.float_units import FloatUnit
from hardware.group_formats import Gse
from hardware.integer_units import GroupUnit
from hardware.simulation import meanings, outputs
from hardware.unit import Cycle, Unit
from tests.hardware.operands import all_kinds

GROUPS = {32: 120, 1: 60}
"""Of each kind of operands, by lanes."""


def first_difference(unit: Unit, cycles: list[Cycle]) -> str | None:
    pairs = zip(outputs(unit, cycles), meanings(unit, cycles), strict=True)
    for number, (got, want) in enumerate(pairs):
        if got != want:
            return f"cycle {number}: {got}, not {want}, on {cycles[number]}"
    return None


@pytest.mark.parametrize("name", DESIGNS)
def test_rtl_is_the_meaning(name: str) -> None:
    unit = DESIGNS[name].build()
    difference = first_difference(unit, all_kinds(unit, GROUPS[unit.lanes], seed=7))
    assert difference is None, difference


@pytest.mark.parametrize("name", ["gse5", "gse8", "gse5x8", "int8", "fp8-exact"])
def test_the_longest_sum_fits(name: str) -> None:
    """65 536 products of the largest operands, and of their negatives, do not overflow."""
    unit = DESIGNS[name].build()
    scale = int(unit.x_format.scales[-1]), int(unit.y_format.scales[-1])
    x, y = ((form.mantissas, form.width) for form in (unit.x_format, unit.y_format))
    for sign in (1, -1):
        operands = [largest(*x, 1), largest(*y, sign)]
        lanes = [(code,) * unit.lanes for code in operands]
        cycles = [Cycle(*lanes, *scale, clear=i == 0) for i in range(65536 // 32)]
        want = meanings(unit, cycles)
        assert outputs(unit, cycles)[-1] == want[-1] == want[0] * 2048


def largest(mantissas: Any, width: int, sign: int) -> int:
    """The code of the largest number, or of its negative."""
    negative = [int(c) for c in mantissas if c >> (width - 1)]
    positive = [int(c) for c in mantissas if not c >> (width - 1)]
    if width == 8 and set(E4M3.mantissas) == set(mantissas):
        return max(positive if sign > 0 else negative)
    return max(positive) if sign > 0 else min(negative)


class OneFactor(GroupUnit):
    """Takes c' of x alone."""

    def scaled(self, m: Any, dot: Any) -> Any:
        scaled = Signal(signed(self.scaled_width))
        m.d.comb += scaled.eq(dot * Cat(self.held["x_scale"][:2], Const(1, 1)))
        return scaled


class ShortShift(GroupUnit):
    """Shifts by 15 octaves at most. The full 16 need both operands at the top of their rows."""

    def shift(self) -> Any:
        return super().shift()[:4]


class UnsignedLane(GroupUnit):
    """Takes x as unsigned."""

    def dot(self, m: Any) -> Any:
        dot = Signal(signed(self.dot_width))
        pairs = zip(self.lanes_of("x"), self.lanes_of("y"), strict=True)
        m.d.comb += dot.eq(sum(x.as_unsigned() * y.as_signed() for x, y in pairs))
        return dot


class NarrowDot(GroupUnit):
    """Its dot product has a bit too few, which only the largest operands need."""

    def __init__(self, x: Gse, y: Gse) -> None:
        super().__init__(x, y)
        self.dot_width -= 1


class NeverClears(GroupUnit):
    """Adds to the old sum for ever."""

    def next_sum(self, m: Any, old: Any) -> Any:
        return super().next_sum(m, self.total)


@pytest.mark.parametrize(
    "fault", [OneFactor, ShortShift, UnsignedLane, NarrowDot, NeverClears], ids=lambda f: f.__name__
)
def test_faults_are_found(fault: type[GroupUnit]) -> None:
    unit = fault(Gse(5, 4), Gse(5, 4))
    assert first_difference(unit, all_kinds(unit, 120, seed=7)) is not None


def test_a_fault_of_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float sum that cuts instead of rounding."""
    monkeypatch.setattr("hardware.float_parts.shift_right_sticky", lambda _m, x, d: x >> d)
    unit = FloatUnit(E4M3)
    assert first_difference(unit, all_kinds(unit, GROUPS[1], seed=7)) is not None
