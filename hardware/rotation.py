# SPDX-License-Identifier: Apache-2.0
"""The 32-point Hadamard rotation of a group, as five rounds of sums and differences.

A rotated group feeds as many units as there are output features, so this is not part of a unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gsqc.numerics.formats import GROUP
from gsqc.numerics.operators.hadamard import HADAMARD
from hardware.group_formats import signed, unsigned
from hardware.unit import Cycle, packed

ROW_BITS = 16
"""Activations between products are Row-16."""


class Rotation(wiring.Component):
    """H · y of 32 signed numbers a cycle, exact. Input and output are registered."""

    output = "rotated"
    _MustUse__silence = True  # as in a unit

    def __init__(self, bits: int = ROW_BITS) -> None:
        self.bits, self.out_bits = bits, bits + GROUP.bit_length() - 1
        self.sizes, self.lanes = {"y": bits * GROUP}, GROUP
        super().__init__({"y": In(bits * GROUP), "rotated": Out(self.out_bits * GROUP)})

    def elaborate(self, _platform: object) -> Module:
        """Round h pairs the numbers whose places differ by h."""
        m = Module()
        held = Signal.like(self.y, reset_less=True)
        out = Signal.like(self.rotated, reset_less=True)
        numbers: list[Any] = [
            held[i * self.bits : (i + 1) * self.bits].as_signed() for i in range(GROUP)
        ]
        for h in (1, 2, 4, 8, 16):
            numbers = [
                numbers[i - h] - numbers[i] if i & h else numbers[i] + numbers[i + h]
                for i in range(GROUP)
            ]
        m.d.sync += [
            held.eq(self.y),
            out.eq(Cat(number[: self.out_bits] for number in numbers)),
        ]
        m.d.comb += self.rotated.eq(out)
        return m

    def words(self, cycle: Cycle) -> dict[str, int]:
        """The group, which is the cycle's x."""
        return {"y": packed(cycle.x, self.bits)}

    def meaning(self, _old: int, cycle: Cycle) -> int:
        """H · y, in one word."""
        y = [signed(code, self.bits) for code in cycle.x]
        rotated = np.array(HADAMARD) @ np.array(y, np.int64)
        return packed(unsigned(rotated, self.out_bits), self.out_bits)
