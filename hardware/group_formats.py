# SPDX-License-Identifier: Apache-2.0
"""GSE, whose groups of 32 integers share a scale, and int8, whose rows do.

A number of GSE-b is m · c · 2^k with |m| ≤ 2^(b-1) - 1 and c in {1, 1 + 1/n, …, 2 - 1/n}. All
numbers of a group share c and k. Units see integers: c' = n · c, and k above the least of the row.

gsqc's quantise has one n for each width, and always rotates. Here are the forms beside it too: with
powers of two alone, and without the rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsqc.numerics.formats import WINDOW
from gsqc.numerics.operators.hadamard import HADAMARD

Codes = NDArray[np.int64]
Numbers = NDArray[np.float64]

OCTAVE_BITS = 4
"""They hold an octave of 0 to WINDOW."""


def unsigned(values: Codes, width: int) -> Codes:
    """Two's complement, as a unit's ports take it."""
    return values & ((1 << width) - 1)


def signed(code: int, width: int) -> int:
    """The number that a two's complement code stands for."""
    return code - (1 << width) if code >> (width - 1) else code


@dataclass(frozen=True)
class Gse:
    """GSE-b with n scales an octave. n = 1 is the paper's kind: powers of two alone.

    `stored`: the mantissa is kept as m · c', an int8 in every width, and the unit needs no factor.
    This is how kernels for CPUs and GPUs take the format. `rotated`: groups are rotated before they
    are rounded.
    """

    bits: int
    n: int
    stored: bool = False
    rotated: bool = True

    @property
    def limit(self) -> int:
        """The largest |m|."""
        return (1 << (self.bits - 1)) - 1

    @property
    def width(self) -> int:
        """Bits of a mantissa at the unit's port."""
        return 8 if self.stored else self.bits

    @property
    def factors(self) -> int:
        """c' is factors + (the scale's low bits): 1, 2 to 3 or 4 to 7."""
        return 1 if self.stored else self.n

    @property
    def scale_width(self) -> int:
        """Bits of a scale: those of c' - n below, the octave above."""
        return OCTAVE_BITS + self.factors.bit_length() - 1

    @property
    def largest(self) -> int:
        """The largest absolute value of a mantissa at the unit's port."""
        return self.limit * (2 * self.n - 1) if self.stored else self.limit

    @property
    def mantissas(self) -> Codes:
        """All codes of mantissas. -2^(b-1) is none."""
        return unsigned(np.arange(-self.largest, self.largest + 1), self.width)

    @property
    def scales(self) -> Codes:
        """All codes of scales: 0 to WINDOW octaves, with each c'."""
        return np.arange((WINDOW + 1) * self.factors)

    def round(self, row: Numbers) -> tuple[Codes, Codes]:
        """A row [groups, 32] of numbers, rounded: codes [groups, 32], scales [groups].

        A scale is the least with max ≤ (limit + ½) · scale, inside the window. Halves round up.
        """
        if self.rotated:
            row = row @ np.array(HADAMARD, np.float64)
        codes = self._least_scales(np.abs(row).max(-1))
        codes = np.maximum(codes, codes.max() - WINDOW * self.n)
        octave, part = np.divmod(codes, self.n)
        scale = (1 + part / self.n) * 2.0**octave
        m = np.floor(row / scale[:, None] + 0.5).astype(np.int64)
        m = np.clip(m, -self.limit, self.limit)
        octave = octave - (octave.max() - WINDOW)
        if self.stored:
            return unsigned(m * (self.n + part)[:, None], self.width), octave
        return unsigned(m, self.width), octave * self.n + part

    def _least_scales(self, largest: Numbers) -> Codes:
        """n · k + (c' - n) of the least scale that holds each of the numbers. Of 0, the least."""
        holds = self.limit + 0.5
        codes = np.full(largest.shape, -64 * self.n)
        for code in range(-64 * self.n, 64 * self.n):
            held = holds * (1 + code % self.n / self.n) * 2.0 ** (code // self.n)
            codes = np.where(largest > held, code + 1, codes)
        return codes


@dataclass(frozen=True)
class Int8:
    """int8 with one scale a row, which a unit does not see."""

    width: int = 8
    scale_width: int = 0
    factors: int = 1
    largest: int = 127

    @property
    def mantissas(self) -> Codes:
        """-127 to 127."""
        return unsigned(np.arange(-127, 128), 8)

    @property
    def scales(self) -> Codes:
        """One, which has no bits."""
        return np.zeros(1, np.int64)

    def round(self, row: Numbers) -> tuple[Codes, Codes]:
        """A row [groups, 32], its largest number at 127."""
        m = np.rint(row / np.abs(row).max() * 127).astype(np.int64)
        return unsigned(m, 8), np.zeros(len(row), np.int64)
