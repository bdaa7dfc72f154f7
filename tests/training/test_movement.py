# SPDX-License-Identifier: Apache-2.0
"""A run whose weights stay where they are says so once."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gsqc.numerics.optim.adamw import AdamW
from gsqc.training.learning_rate import LearningRate
from gsqc.training.movement import WATCHED_STEPS, Movement
from tests.numerics.optim.test_adamw import IntegerOptimizer

MATRIX = "layers.0.q_b"


class Adapter:
    """A session of one weight, which AdamW moves by the learning rate in its first step."""

    def __init__(self) -> None:
        self.step_count = 0
        self.tensors = {MATRIX: np.zeros(4, np.int32), f"{MATRIX}.moment.m": np.zeros(4, np.int32)}
        adapter = SimpleNamespace(matrices={MATRIX: None})
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(adapter=adapter))

    def state(self) -> dict[str, Any]:
        return self.tensors

    def step(self, rate: Fraction) -> None:
        self.step_count += 1
        # Weights are multiples of 2^-24, rounded half up: docs/number-format.md, optim/moments.py.
        self.tensors[MATRIX] -= np.int32((rate * 2**25 + 1) // 2)
        self.tensors[f"{MATRIX}.moment.m"] += 1


def told(rates: LearningRate, steps: int) -> list[str | None]:
    session: Any = Adapter()
    movement = Movement(session, rates)
    found = []
    for step in range(1, steps + 1):
        session.step(rates.at(step))
        note = movement.after_step(is_last=step == steps)
        found.append(None if note is None else note.text)
    return found


@pytest.mark.parametrize("rate", ["1e-3", "1e-7", "3e-8"])
def test_a_rate_that_moves_weights_is_not_told(rate: str) -> None:
    assert told(LearningRate(Fraction(rate), 9), 9) == [None] * 9


@pytest.mark.parametrize("rate", ["0", "1e-12", "2.9e-8"])
def test_a_rate_that_moves_nothing_is_told_once(rate: str) -> None:
    found = told(LearningRate(Fraction(rate), 9), 9)
    assert [k for k, text in enumerate(found, 1) if text] == [WATCHED_STEPS]
    text = found[WATCHED_STEPS - 1] or ""
    assert (
        f"no weight has moved in 3 steps: the learning rate of step 3 is {float(rate):.2g}" in text
    )
    assert "raise --lr" in text and "--warmup" not in text


def test_a_short_run_is_told_at_its_end() -> None:
    assert "no weight has moved in a step" in (told(LearningRate(Fraction(0), 1), 1)[0] or "")


def test_a_long_warmup_is_named() -> None:
    text = told(LearningRate(Fraction(1, 1000), 10**7, warmup=10**6), 3)[-1] or ""
    assert "raise --lr or shorten --warmup" in text


@pytest.mark.parametrize(("rate", "moves"), [("3.1e-8", True), ("2.7e-8", False)])
def test_the_limit_is_that_of_the_optimizer(rate: str, moves: bool) -> None:
    """The first step of AdamW moves a weight by the rate, and 2^-25 is 2.98e-8."""
    ours = IntegerOptimizer(AdamW(), np.zeros((2, 32), np.int32))
    ours.step(np.full((2, 32), 2**34, np.int64), Fraction(rate), Fraction(0))
    assert bool(ours.p.any()) is moves
