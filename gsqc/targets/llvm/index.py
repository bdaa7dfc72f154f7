# SPDX-License-Identifier: Apache-2.0
"""Element indices as sums of loop variables.

Reshapes and broadcasts divide indices, and a division per element would cost more than most ops do.
In this form nearly all of them are done when the kernel is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gsqc.targets.llvm.emit import Expr, const, new_var


class NotVector(Exception):
    """The lanes of an index do not stay together when it is divided by `period`."""

    def __init__(self, period: int) -> None:
        """Say which period the lanes cross."""
        super().__init__(period)
        self.period = period


class Axis:
    """A loop variable in [0, extent)."""

    __slots__ = ("extent", "var")

    def __init__(self, name: str, extent: int, var: Expr | None = None) -> None:
        """A new variable, or one that exists."""
        self.extent = extent
        self.var = new_var(name) if var is None else var


Divide = Callable[["Index", int], tuple[Expr, Expr]]
"""Gives names to an index // period and to an index % period."""


@dataclass(frozen=True)
class Index:
    """Σ coefficient · axis + constant, and `lanes` consecutive indices from there."""

    terms: tuple[tuple[Axis, int], ...] = ()
    constant: int = 0
    lanes: int = 1

    @property
    def largest(self) -> int:
        """The largest value of the last lane."""
        return self.constant + sum((a.extent - 1) * c for a, c in self.terms) + self.lanes - 1

    def expr(self) -> Expr:
        """The first lane's index."""
        result = None
        for axis, coefficient in self.terms:
            term = axis.var if coefficient == 1 else axis.var * const(coefficient)
            result = term if result is None else result + term
        if result is None:
            return const(self.constant)
        return result + const(self.constant) if self.constant else result

    def scaled(self, factor: int) -> Index:
        """The index times a constant."""
        assert self.lanes == 1 or factor == 1, "lanes stay consecutive"
        return Index(
            tuple((a, c * factor) for a, c in self.terms), self.constant * factor, self.lanes
        )

    def __add__(self, other: Index | int) -> Index:
        """The sum; at most one of the two is a vector."""
        if isinstance(other, int):
            return Index(self.terms, self.constant + other, self.lanes)
        assert self.lanes == 1 or other.lanes == 1
        terms = dict(self.terms)
        for axis, coefficient in other.terms:
            terms[axis] = terms.get(axis, 0) + coefficient
        constant, lanes = self.constant + other.constant, max(self.lanes, other.lanes)
        return Index(tuple(terms.items()), constant, lanes)

    def split(self, period: int, divide: Divide) -> tuple[Index, Index]:
        """(index // period, index % period); NotVector if the lanes do not share a period."""
        if self.largest < period:
            return ZERO, self
        # A term whose coefficient is a multiple of the period only moves the quotient. If the
        # other terms cannot carry into it, the division costs nothing when the kernel runs.
        quotient = Index(
            tuple((a, c // period) for a, c in self.terms if c % period == 0),
            self.constant // period,
        )
        inner = tuple((a, c) for a, c in self.terms if c % period)
        remainder = Index(inner, self.constant % period, self.lanes)
        if remainder.largest < period:
            return quotient, remainder
        if self.lanes > 1:
            raise NotVector(period)
        # What is left is a division in the kernel. Its results are variables like a loop's, so that
        # further splits of them are free again.
        outer, inside = divide(self, period)
        outer_axis = Axis("part", self.largest // period + 1, outer)
        return Index(((outer_axis, 1),)), Index(((Axis("part", period, inside), 1),))


ZERO = Index()
