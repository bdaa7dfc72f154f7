# SPDX-License-Identifier: Apache-2.0
"""Options of a run: a number has one spelling, and a sentence says what is out of range."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from gsqc.decimals import plain_number
from gsqc.errors import OptionError
from gsqc.training.fixed_settings import FIXED_BY_SCHEDULE, FIXED_IF_GIVEN, FIXED_SETTINGS
from gsqc.training.options import TrainOptions


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1e-3", "0.001"),
        (0.001, "0.001"),
        ("1.50", "1.5"),
        (10, "10"),
        ("1E-12", "1e-12"),
        ("fast", "fast"),
        ("0.1000000000000000000000000000000001", "0.1000000000000000000000000000000001"),
    ],
)
def test_numbers_have_one_spelling(value: Any, text: str) -> None:
    assert plain_number(value) == text


def test_what_decides_the_bits() -> None:
    options = TrainOptions(
        10, 1e-3, "cosine", 2, min_lr="1e-5", weight_decay=0.1, clip=1, batch=2, accumulate=3
    )
    assert options.largest_norm == 1
    assert options.decay == Fraction(1, 10)
    assert options.rates.least == Fraction(1, 100000)
    assert options.settings(4) == {
        "steps": 10,
        "lr": "0.001",
        "schedule": "cosine",
        "warmup": 2,
        "min_lr": "0.00001",
        "weight_decay": "0.1",
        "clip": "1",
        "sequences_per_step": 6,
        "seed": 0,
    }
    assert TrainOptions(1, "0.1", accumulate=3).sequences_per_step(4) == 12


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "--steps"),
        ({"steps": 1.5}, "--steps"),
        ({"steps": True}, "--steps"),
        ({"warmup": -1}, "--warmup"),
        ({"warmup": 5}, "warm-up"),
        ({"lr": 2}, "--lr"),
        ({"min_lr": "0.5"}, "--min-lr"),
        ({"clip": 0}, "--clip"),
        ({"clip": "wide"}, "--clip"),
        ({"accumulate": 0}, "--accumulate"),
        ({"patience": 0}, "--patience"),
        ({"schedule": "square"}, "square"),
    ],
)
def test_values_out_of_range_are_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        TrainOptions(**{"steps": 4, "lr": "0.1", **changes})


def test_a_step_has_at_most_64_sequences() -> None:
    with pytest.raises(OptionError, match="8 times --accumulate 9 is 72"):
        TrainOptions(1, "0.1", accumulate=9).sequences_per_step(8)


def test_what_a_run_holds_on_to() -> None:
    """The names are written out here, because runs of older versions depend on them."""
    assert {*FIXED_SETTINGS, *FIXED_IF_GIVEN} == {
        *("data_sha256", "mask_prompt", "packing", "held_out_share", "validation_sha256"),
        *("images_sha256", "prompt_end"),
        *("lr", "schedule", "warmup", "min_lr", "weight_decay", "clip"),
        *("sequences_per_step", "seed"),
    }
    assert FIXED_BY_SCHEDULE == ("steps",)
