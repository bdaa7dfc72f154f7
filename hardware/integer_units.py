# SPDX-License-Identifier: Apache-2.0
"""Units for GSE and int8: the products of a group are added first, then aligned once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, signed

from gsqc.numerics.formats import GROUP, WINDOW
from hardware import group_formats
from hardware.group_formats import Gse, Int8
from hardware.unit import SUM_LENGTH, Cycle, Unit, adder_tree, signed_width


class GroupUnit(Unit):
    """sum + ((Σ m · m') · c' · c'' << (k + k')), exact: nothing is rounded and nothing overflows.

    With 32 lanes a cycle takes a group. With one lane each product has its own factor and
    alignment, which is what sharing a scale saves.
    """

    def __init__(self, x: Gse | Int8, y: Gse | Int8, lanes: int = GROUP) -> None:
        self.sides = (("x_scale", x), ("y_scale", y))
        factor = (2 * x.factors - 1) * (2 * y.factors - 1)
        shift = 2 * WINDOW if x.scale_width else 0
        product = x.largest * y.largest
        self.dot_width = signed_width(lanes * product)
        self.scaled_width = signed_width(lanes * product * factor)
        self.term_width = signed_width(lanes * product * factor << shift)
        total = signed_width(SUM_LENGTH * product * factor << shift)
        super().__init__(x, y, lanes, signed(total))

    def next_sum(self, m: Module, old: Any) -> Any:
        """A tree of products, one small product, one shift, one addition."""
        term = self.aligned(m, self.scaled(m, self.dot(m)))
        return old + term

    def dot(self, m: Module) -> Any:
        """Σ m · m' of the lanes."""
        dot = Signal(signed(self.dot_width))
        pairs = zip(self.lanes_of("x"), self.lanes_of("y"), strict=True)
        m.d.comb += dot.eq(adder_tree(x.as_signed() * y.as_signed() for x, y in pairs))
        return dot

    def scaled(self, m: Module, dot: Any) -> Any:
        """dot · c' · c''. c' is a one before the scale's low bits."""
        factors = [
            Cat(self.held[name][: side.factors.bit_length() - 1], Const(1, 1))
            for name, side in self.sides
            if side.factors > 1
        ]
        if not factors:
            return dot
        scaled = Signal(signed(self.scaled_width))
        factor = factors[0] * factors[1] if len(factors) == 2 else factors[0]
        m.d.comb += scaled.eq(dot * factor)
        return scaled

    def aligned(self, m: Module, scaled: Any) -> Any:
        """scaled << (k + k')."""
        if not self.x_format.scale_width:
            return scaled
        term = Signal(signed(self.term_width))
        m.d.comb += term.eq(scaled << self.shift())
        return term

    def shift(self) -> Any:
        """k + k', 0 to 16."""
        octaves = [self.held[name][side.factors.bit_length() - 1 :] for name, side in self.sides]
        return octaves[0] + octaves[1]

    def meaning(self, old: int, cycle: Cycle) -> int:
        """The sum after a cycle."""
        term, shift = 0, 0
        for x, y in zip(cycle.x, cycle.y, strict=True):
            left = group_formats.signed(x, self.x_format.width)
            term += left * group_formats.signed(y, self.y_format.width)
        for scale, (_, side) in zip((cycle.x_scale, cycle.y_scale), self.sides, strict=True):
            octave, part = divmod(scale, side.factors)
            term *= side.factors + part
            shift += octave
        return (0 if cycle.clear else old) + (term << shift)
