# SPDX-License-Identifier: Apache-2.0
"""Learning rates are exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from gsqc.decimals import parse_fraction
from gsqc.errors import OptionError
from gsqc.training.learning_rate import LearningRate, half_cosine

SEVENTHS = [4383335774785663186, 3743512610145685869, 2818941349180563610, 868173408281702035]


def test_rates() -> None:
    linear = LearningRate(Fraction(1, 1000), steps=6, warmup=2, kind="linear")
    assert [linear.at(k) * 4000 for k in range(1, 9)] == [2, 4, 4, 3, 2, 1, 0, 0]
    constant = LearningRate(Fraction(1, 1000), steps=6, warmup=3)
    assert [constant.at(k) * 3000 for k in range(1, 6)] == [1, 2, 3, 3, 3]
    assert LearningRate(Fraction(1), steps=2, warmup=2, kind="linear").at(3) == 0


def test_decimal_texts_are_exact() -> None:
    assert parse_fraction("1e-3", "--lr", 1) == Fraction(1, 1000)
    assert parse_fraction("0.1", "--lr", 1) == Fraction(1, 10)
    assert parse_fraction("0", "--lr", 1) == 0


@pytest.mark.parametrize(
    "text",
    ["", "x", "nan", "inf", "-1e-3", "1.5", "1/3", "1e-999999999", "1e999999999", "0." + "1" * 99],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--lr"):
        parse_fraction(text, "--lr", 1)


def test_a_schedule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="warm-up"):
        LearningRate(Fraction(1), steps=2, warmup=3)
    with pytest.raises(OptionError, match="--min-lr"):
        LearningRate(Fraction(1, 100), steps=2, kind="linear", least=Fraction(1, 10))


def test_half_cosine() -> None:
    """It is exact where it can be, and else agrees with a double, whose error is 2^-53."""
    assert [half_cosine(Fraction(k, 2)) for k in range(3)] == [1, Fraction(1, 2), 0]
    for k in range(101):
        assert (
            abs(float(half_cosine(Fraction(k, 100))) - (1 + math.cos(math.pi * k / 100)) / 2)
            < 2**-52
        )
    thirds = half_cosine(Fraction(1, 3)), half_cosine(Fraction(2, 3))
    assert thirds == (Fraction(3, 4), Fraction(1, 4))


def test_half_cosine_is_the_same_integer_everywhere() -> None:
    """The numerators over 2^62 come from 60-digit decimal arithmetic."""
    assert [int(half_cosine(Fraction(k, 7)) * 2**62) for k in (1, 2, 3, 5)] == SEVENTHS


def test_cosine_falls_from_peak_to_least() -> None:
    cosine = LearningRate(
        Fraction(1, 100), steps=12, warmup=2, kind="cosine", least=Fraction(1, 1000)
    )
    rates = [cosine.at(k) for k in range(1, 14)]
    assert rates[:3] == [Fraction(1, 200), Fraction(1, 100), Fraction(1, 100)]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[7] == Fraction(11, 2000), "half way"
    assert rates[-1] == Fraction(1, 1000)
    linear = LearningRate(
        Fraction(1, 100), steps=6, warmup=2, kind="linear", least=Fraction(2, 1000)
    )
    assert [linear.at(k) * 1000 for k in (3, 5, 7)] == [10, 6, 2]
