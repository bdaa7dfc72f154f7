# SPDX-License-Identifier: Apache-2.0
"""Numbers that decide bits. Decimal texts are taken as exact fractions, and have one spelling."""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from gsqc.errors import OptionError
from gsqc.values import shown, unboxed

_MOST_CHARACTERS = 60
_EXACT = Context(prec=_MOST_CHARACTERS)
"""Python's own context would round to 28 digits."""
_LARGEST_EXPONENT = 30
"""A Fraction of 1e-999999999 would take all memory."""


def plain_number(value: str | float) -> str:
    """The one spelling of a number: 1e-3 and 0.001 are the same setting.

    A text that is no number stays as it is.
    """
    try:
        number = Decimal(str(value)).normalize(_EXACT)
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


def as_fraction(value: Any, name: str, maximum: int) -> Fraction:
    """A number, or its decimal text, as an exact fraction. A float stands for its shortest text.

    Raises OptionError unless it is in [0, maximum].
    """
    if isinstance(value, Fraction) and 0 <= value <= maximum:
        return value
    exact = exact_fraction(shown(value), maximum)
    return parse_fraction(shown(unboxed(value)), name, maximum) if exact is None else exact


def parse_fraction(text: str, name: str, maximum: int) -> Fraction:
    """As `exact_fraction`, for the option `name`. Raises OptionError for any other text."""
    value = exact_fraction(text, maximum)
    if value is None:
        raise OptionError(
            f"{name} {text} is not a number from 0 to {maximum}", f"write it like {name} 1e-3"
        )
    return value
