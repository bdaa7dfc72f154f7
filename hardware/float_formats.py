# SPDX-License-Identifier: Apache-2.0
"""FP8 and other small floats as exact integers: what a code means, and rounding to the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hardware.group_formats import Codes, Numbers


class Decoded(NamedTuple):
    """`kind` is "number" (m · 2^k), "infinity" (m is 1 if negative) or "nan"."""

    kind: str
    m: int
    k: int


@dataclass(frozen=True)
class Float:
    """A sign, `e` bits of exponent, `m` bits of mantissa, with subnormals.

    `finite` is E4M3 as OCP has it: no infinity, and one NaN a sign. `flush` counts subnormal
    numbers as 0, which is usual for bfloat16 and for the sums of matrix units.
    """

    e: int
    m: int
    finite: bool = False
    flush: bool = False

    @property
    def width(self) -> int:
        """Bits of a code."""
        return 1 + self.e + self.m

    @property
    def scale_width(self) -> int:
        """None: each number has its own exponent."""
        return 0

    @property
    def bias(self) -> int:
        """Of the exponent."""
        return (1 << (self.e - 1)) - 1

    @property
    def infinity(self) -> int:
        """The code of +∞, where there is one."""
        return ((1 << self.e) - 1) << self.m

    @property
    def nan(self) -> int:
        """The code of a NaN as units give it."""
        return self.infinity | 1 << (self.m - 1)

    def decode(self, code: int) -> Decoded:
        """What a code means."""
        sign = code >> (self.e + self.m)
        e, m = code >> self.m & ((1 << self.e) - 1), code & ((1 << self.m) - 1)
        if e == (1 << self.e) - 1 and (not self.finite or m == (1 << self.m) - 1):
            return Decoded("nan", 0, 0) if m else Decoded("infinity", sign, 0)
        if e:
            m |= 1 << self.m
        elif self.flush:
            m = 0
        return Decoded("number", -m if sign else m, max(e, 1) - self.bias - self.m)

    def encode(self, m: int, k: int) -> int:
        """m · 2^k rounded to the nearest, ties to even.

        Below the smallest normal number it is +0, above the largest ∞: only sums are encoded.
        """
        sign, a = int(m < 0) << (self.e + self.m), abs(m)
        cut = a.bit_length() - 1 - self.m
        if cut > 0:
            half, rest = 1 << (cut - 1), a & ((1 << cut) - 1)
            a = (a >> cut) + int(rest > half or (rest == half and a >> cut & 1 == 1))
            if a >> (self.m + 1):
                a, cut = a >> 1, cut + 1
        else:
            a <<= -cut
        e = k + cut + self.m + self.bias
        if not m or e < 1:
            return 0
        if e >= (1 << self.e) - 1:
            return sign | self.infinity
        return sign | e << self.m | a & ((1 << self.m) - 1)

    @cached_property
    def mantissas(self) -> Codes:
        """All codes of finite numbers."""
        codes = range(1 << self.width)
        return np.array([c for c in codes if self.decode(c).kind == "number"])

    @property
    def scales(self) -> Codes:
        """One, which has no bits."""
        return np.zeros(1, np.int64)

    @cached_property
    def _grid(self) -> tuple[Numbers, Codes]:
        """The finite numbers ≥ 0 and their codes, ascending."""
        codes = np.array([c for c in self.mantissas if c < 1 << (self.width - 1)])
        decoded = [self.decode(int(c)) for c in codes]
        return np.array([d.m * 2.0**d.k for d in decoded]), codes

    def round(self, row: Numbers) -> tuple[Codes, Codes]:
        """A row [groups, 32], each number to the nearest. FP8 puts the row's largest on its own."""
        grid, codes = self._grid
        size = np.abs(row)
        if self.width == 8:
            size = size / size.max() * grid[-1]
        above = np.clip(np.searchsorted(grid, size), 1, len(grid) - 1)
        nearest = above - (size - grid[above - 1] < grid[above] - size)
        signs = np.signbit(row).astype(np.int64) << (self.width - 1)
        return codes[nearest] | signs, np.zeros(len(row), np.int64)


E4M3, E5M2 = Float(4, 3, finite=True), Float(5, 2)
"""FP8. Micikevicius et al. 2022, "FP8 Formats for Deep Learning" (arXiv 2209.05433), table 1."""
BF16 = Float(8, 7, flush=True)
SUM32, SUM16 = Float(8, 23, flush=True), Float(5, 10, flush=True)
"""Sums in float32 and in float16."""
