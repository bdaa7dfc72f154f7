# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules in exact fractions: the same rate on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from gsqc.errors import OptionError

SCHEDULES = ("constant", "linear")


def parse_fraction(text: str, name: str, maximum: int) -> Fraction:
    """A decimal text ("1e-3") as an exact fraction in [0, maximum]; OptionError if it is none."""
    try:
        value = Decimal(text)
        if not value.is_finite() or value < 0 or value > maximum or abs(value.adjusted()) > 30 or len(text) > 60:
            raise ValueError(text)
    except (InvalidOperation, ValueError):
        raise OptionError(
            f"{name} is {text!r}, which is no number from 0 to {maximum}", f"write it like {name} 1e-3"
        ) from None
    return Fraction(value)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup` steps to `peak`, then constant, or linear to zero after step `steps`.

    Raises OptionError for an unknown kind, or a warm-up longer than the run.
    """

    peak: Fraction
    steps: int
    warmup: int = 0
    kind: str = "constant"

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise OptionError(f"unknown schedule {self.kind}", f"one of {', '.join(SCHEDULES)}")
        if self.warmup > self.steps:
            raise OptionError(f"a warm-up of {self.warmup} steps in {self.steps}", "take a --warmup of at most --steps")

    def rate(self, step: int) -> Fraction:
        """The learning rate of step 1, 2, …"""
        if step <= self.warmup:
            return self.peak * Fraction(step, self.warmup)
        if self.kind == "constant":
            return self.peak
        if step > self.steps:
            return Fraction(0)
        return self.peak * Fraction(self.steps - step + 1, self.steps - self.warmup)
