# SPDX-License-Identifier: Apache-2.0
"""Numbers that decide bits. Decimal texts are taken as exact fractions, and have one spelling."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from gsqc.errors import OptionError

_MOST_CHARACTERS = 60
_LARGEST_EXPONENT = 30
"""A Fraction of 1e-999999999 would take all memory."""


def plain_number(value: str | float) -> str:
    """The one spelling of a number: 1e-3 and 0.001 are the same setting.

    A text that is no number stays as it is.
    """
    try:
        number = Decimal(str(value)).normalize()
        return (
            format(number, "f")
            if number.is_finite() and -9 <= number.adjusted() <= 9
            else str(number).lower()
        )
    except InvalidOperation:
        return str(value)


def exact_fraction(text: str, maximum: int) -> Fraction | None:
    """A decimal text such as "1e-3" as an exact fraction in [0, maximum]. None for any other."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite() or not 0 <= value <= maximum:
        return None
    if abs(value.adjusted()) > _LARGEST_EXPONENT or len(text) > _MOST_CHARACTERS:
        return None
    return Fraction(value)


def parse_fraction(text: str, name: str, maximum: int) -> Fraction:
    """As `exact_fraction`, for the option `name`. Raises OptionError for any other text."""
    value = exact_fraction(text, maximum)
    if value is None:
        raise OptionError(
            f"{name} {text} is not a number from 0 to {maximum}", f"write it like {name} 1e-3"
        )
    return value
