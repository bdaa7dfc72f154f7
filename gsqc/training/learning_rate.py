# SPDX-License-Identifier: Apache-2.0
"""LearningRate: schedules in exact fractions, which give the same rate on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gsqc.errors import OptionError

SCHEDULES = ("constant", "linear", "cosine")

_BITS = 96
_PI = 31415926535897932384626433832795028841971693993751 * (1 << _BITS) // 10**49
_COSINE_BITS = 62


def half_cosine(t: Fraction) -> Fraction:
    """(1 + cos πt) / 2 for t in [0, 1], rounded to 62 bits.

    The C library's cosine differs between machines, so this sums its power series on 96-bit
    integers. Each term is rounded down, and the sum is off by less than 2^-88 before its rounding.
    """
    assert 0 <= t <= 1
    x = _PI * t.numerator // t.denominator
    square = x * x >> _BITS
    total, term, n = 0, 1 << _BITS, 0
    while term:
        total += term if n % 4 == 0 else -term
        term = (term * square >> _BITS) // ((n + 1) * (n + 2))
        n += 2
    half = (1 << _BITS) + total >> 1
    down = _BITS - _COSINE_BITS
    return Fraction(
        min(max(half + (1 << (down - 1)) >> down, 0), 1 << _COSINE_BITS), 1 << _COSINE_BITS
    )


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of each step.

    It rises linearly over `warmup` steps to `peak`. Then it stays there, or falls towards `least`
    after step `steps`: linearly, or by half a period of the cosine (Loshchilov & Hutter 2017, arXiv
    1608.03983). Raises OptionError for a warm-up longer than the run, or a least rate above the
    peak.
    """

    peak: Fraction
    steps: int
    warmup: int = 0
    kind: str = "constant"
    least: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        assert self.kind in SCHEDULES
        if self.warmup > self.steps:
            raise OptionError(
                f"a warm-up of {self.warmup} steps is longer than the run of {self.steps}",
                "take a --warmup of at most --steps",
            )
        if self.least > self.peak:
            raise OptionError("--min-lr is above --lr", "take a --min-lr of at most --lr")

    def at(self, step: int) -> Fraction:
        """The learning rate of step 1, 2, …"""
        if step <= self.warmup:
            return self.peak * Fraction(step, self.warmup)
        if self.kind == "constant":
            return self.peak
        if step > self.steps:
            return self.least
        t = Fraction(step - 1 - self.warmup, self.steps - self.warmup)
        share = 1 - t if self.kind == "linear" else half_cosine(t)
        return self.least + (self.peak - self.least) * share
