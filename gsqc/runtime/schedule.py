# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules in exact fractions: the same rate on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from gsqc.errors import OptionError

SCHEDULES = ("constant", "linear")


def parse_fraction(text: str, name: str) -> Fraction:
    """A decimal text ("1e-3") as an exact, non-negative fraction; OptionError if it is none."""
    try:
        value = Decimal(text)
        if not value.is_finite() or value < 0 or abs(value.adjusted()) > 30:
            raise ValueError(text)
    except (InvalidOperation, ValueError):
        raise OptionError(f"{name} is {text!r}, which is no number ≥ 0", f"write it like {name} 1e-3") from None
    return Fraction(value)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup` steps to `peak`, then constant, or linear to zero after step `steps`."""

    peak: Fraction
    steps: int
    warmup: int = 0
    kind: str = "constant"

    def rate(self, step: int) -> Fraction:
        """The learning rate of step 1, 2, …"""
        if step <= self.warmup:
            return self.peak * Fraction(step, self.warmup)
        if self.kind == "constant":
            return self.peak
        return self.peak * Fraction(max(self.steps - step + 1, 0), max(self.steps - self.warmup, 1))
