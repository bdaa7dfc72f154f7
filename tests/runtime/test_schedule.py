# SPDX-License-Identifier: Apache-2.0
"""Learning rates are exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gsqc.errors import OptionError
from gsqc.runtime.schedule import Schedule, parse_fraction


def test_rates() -> None:
    linear = Schedule(Fraction(1, 1000), steps=6, warmup=2, kind="linear")
    assert [linear.rate(k) * 4000 for k in range(1, 9)] == [2, 4, 4, 3, 2, 1, 0, 0]
    constant = Schedule(Fraction(1, 1000), steps=6, warmup=3)
    assert [constant.rate(k) * 3000 for k in range(1, 6)] == [1, 2, 3, 3, 3]
    assert Schedule(Fraction(1), steps=2, warmup=2, kind="linear").rate(3) == 0


def test_decimal_texts_are_exact() -> None:
    assert parse_fraction("1e-3", "--lr", 1) == Fraction(1, 1000)
    assert parse_fraction("0.1", "--lr", 1) == Fraction(1, 10)
    assert parse_fraction("0", "--lr", 1) == 0


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "-1e-3", "1.5", "1/3", "1e-999999999", "1e999999999", "0." + "1" * 99]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--lr"):
        parse_fraction(text, "--lr", 1)


def test_a_schedule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="warm-up"):
        Schedule(Fraction(1), steps=2, warmup=3)
    with pytest.raises(OptionError, match="cosine"):
        Schedule(Fraction(1), steps=2, kind="cosine")
