# SPDX-License-Identifier: Apache-2.0
"""--epochs in place of --steps: ⌈epochs · sequences / sequences of a step⌉, exactly."""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.errors import OptionError
from gsqc.training.epochs import count_steps
from gsqc.training.options import TrainOptions


@pytest.mark.parametrize(
    ("epochs", "sequences", "per_step", "steps"),
    [
        ("1", 10, 1, 10),
        (1, 10, 4, 3),
        ("0.5", 10, 1, 5),
        ("0.1", 10, 1, 1),
        (0.1, 30, 1, 3),  # 0.1 in binary times 30 is above 3
        ("0.7", 10, 1, 7),
        ("1e-3", 10, 1, 1),
        ("2.0000000000000000000000000001", 10, 1, 21),
        (3, 9000, 8, 3375),
    ],
)
def test_steps_of_epochs(epochs: Any, sequences: int, per_step: int, steps: int) -> None:
    counted = count_steps(TrainOptions(epochs=epochs), sequences, per_step)
    assert (counted.steps, counted.epochs) == (steps, None)
    assert counted.settings(1)["steps"] == steps


def test_steps_stay_as_they_are() -> None:
    options = TrainOptions(steps=7)
    assert count_steps(options, 100, 2) is options


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "--steps or --epochs, which"),
        ({"steps": 3, "epochs": 1}, "not both"),
        ({"epochs": -1}, "--epochs -1 is not a number"),
        ({"epochs": "many"}, "--epochs many is not a number"),
        ({"epochs": 10**6 + 1}, "--epochs"),
    ],
)
def test_what_makes_no_sense_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        TrainOptions(**given)


@pytest.mark.parametrize(
    ("given", "sequences", "told"),
    [
        ({"epochs": 0}, 10, "are 0 steps"),
        ({"epochs": 10**6}, 10**6, "steps"),
        ({"epochs": 1, "warmup": 11}, 10, "warm-up of 11 steps is longer than the run of 10"),
    ],
)
def test_what_does_not_fit_the_data_is_told(
    given: dict[str, Any], sequences: int, told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        count_steps(TrainOptions(**given), sequences, 1)


def test_the_largest_decimal_texts_take_no_memory() -> None:
    with pytest.raises(OptionError, match="--epochs"):
        TrainOptions(epochs="1e-999999999")
