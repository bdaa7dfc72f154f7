# SPDX-License-Identifier: Apache-2.0
"""The forecast of a run is arithmetic on its counts, and on the times that were measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gsqc.data import TokenSequence
from gsqc.training.forecast import EVALUATION_COST, Forecast, long_duration, mean_tokens, plan_run
from gsqc.training.held_out import HeldOut
from gsqc.training.options import TrainOptions


def sequence(weighted: int, length: int = 8) -> TokenSequence:
    weights = np.zeros(length, np.int32)
    weights[:weighted] = 1 << 14
    return TokenSequence(np.zeros(length, np.int32), np.zeros(length, np.int32), weights)


def test_the_readme_s_validation_on_ten_thousand_records() -> None:
    """10 % of 10 000 records are 1000 held-out sequences. Eleven evaluations of all of them take
    as long as 2750 steps, and the run has 200.
    """
    for limit, evaluated in ((0, 1000), (100, 100)):
        held_out = HeldOut([sequence(1)] * 1000, limit)
        plan = plan_run(TrainOptions(200), 1, 0, [sequence(3)] * 9000, held_out)
        # The evaluation before the first step is counted by the trainer.
        plan = Forecast(**{**vars(plan), "evaluations": plan.evaluations + 1})
        assert (plan.evaluations, plan.evaluated, plan.held_out) == (11, evaluated, 1000)
        (note,) = plan.notes()
        spent = 11 * evaluated * EVALUATION_COST
        assert note.values["evaluation_share"] == round(spent / (spent + 200), 4)
        assert note.values["tokens"] == 600
        assert ("--eval-limit" in note.text) is (spent > 200)
        assert "0.0222 epochs of 9,000 sequences" in note.text
    assert 11 * 1000 * EVALUATION_COST == 2750


@pytest.mark.parametrize(
    ("steps", "every", "done", "left"),
    [(200, None, 0, 10), (30, 7, 0, 5), (30, 7, 14, 3), (12, 5, 10, 1), (12, 4, 12, 0)],
)
def test_evaluations_that_are_left(steps: int, every: Any, done: int, left: int) -> None:
    options = TrainOptions(steps, eval_every=every)
    interval = options.evaluation_interval
    counted = sum(k % interval == 0 or k == steps for k in range(done + 1, steps + 1))
    plan = plan_run(options, 1, done, [sequence(1)], HeldOut([sequence(1)]))
    assert plan.evaluations == counted == left


def test_without_held_out_data_there_is_no_evaluation() -> None:
    plan = plan_run(TrainOptions(20), 2, 5, [sequence(4), sequence(2)], HeldOut())
    (note,) = plan.notes()
    assert note.text == (
        "15 steps of 2 sequences: 15 epochs of 2 sequences, about 90 tokens with a loss"
    )
    timed = plan.timed(2.0, None, 64 << 20)
    assert timed.text == "a step takes 2 s: about 30 s in all; 64 MiB of memory"
    assert timed.values["seconds"] == 30


def test_times_that_were_measured() -> None:
    plan = Forecast(100, 2, 50, 1.0, 10, 40, 80)
    measured = plan.timed(0.5, 5.0, 1 << 20)
    assert measured.values["seconds"] == 100 * 0.5 + 10 * 5
    assert measured.values["evaluation_share"] == 0.5
    assert (
        "a step takes 0.5 s and an evaluation 5 s: about 100 s in all, 50% of it" in measured.text
    )
    # Without a measure, an evaluation is 40 sequences at a quarter of the time of one in a step.
    assert plan.timed(0.5, None, 1).values["evaluation_seconds"] == 40 * 0.25 * 0.25


def test_a_run_with_no_step_left_has_no_forecast() -> None:
    assert list(Forecast(0, 1, 5, 1.0, 1, 1, 1).notes()) == []


def test_the_mean_of_the_tokens() -> None:
    assert mean_tokens([sequence(k) for k in (1, 2, 6)]) == 3
    assert mean_tokens([sequence(k % 2) for k in range(2500)]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.31, "0.31 s"), (12.4, "12 s"), (150, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert long_duration(seconds) == text
