# SPDX-License-Identifier: Apache-2.0
"""RunView shows a run as texts."""

from __future__ import annotations

import pytest

from gsqc.training.callbacks import Event, Note
from gsqc.training.notebook import view_html
from gsqc.training.progress import best_of, trend
from gsqc.training.view import RunView, curve, duration


def entry(step: int, loss: float, **more: object) -> dict[str, object]:
    numbers = {
        "tokens_per_second": 100.0,
        "peak_rss_bytes": 3 << 20,
        "learning_rate": 1e-3,
        "digest": "ab" * 32,
    }
    return {"step": step, "loss": loss, **numbers, **more}


def test_curve() -> None:
    assert curve([]) == ""
    assert curve([1.0]) == "▁"
    assert curve([4.0, 3.0, 2.0, 1.0]) == "█▆▃▁"
    assert len(curve([float(k) for k in range(1000)], 40)) == 40


def test_trend_is_the_slope() -> None:
    assert trend([5.0]) == 0
    assert trend([5.0, 4.5, 4.0, 3.5]) == pytest.approx(-0.5)


def test_best_is_the_first_of_the_lowest() -> None:
    assert best_of([{"step": 1, "loss": 2.0}]) is None
    losses = {0: 3.0, 5: 2.0, 10: 2.0, 15: 2.5}
    best = best_of([{"step": s, "validation_loss": v} for s, v in losses.items()])
    assert best is not None
    assert (best.loss, best.step, best.evaluations_since) == (2.0, 5, 2)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (247, "4:07"), (3847, "1:04:07")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rows_and_lines() -> None:
    entries: list[dict[str, object]] = [
        {"step": 0, "validation_loss": 4.0, "validation_tokens": 9, "best": True}
    ]
    view = RunView(20, entries)
    assert (view.rows(), view.step) == (
        [("held-out", "4.0000 at step 0   lowest 4.0000 at step 0")],
        0,
    )
    assert view.line(entries[0]) == "step    0  held-out 4.0000"
    for k in (1, 2):
        entries.append(entry(k, 3.0 - k, gradient_norm=0.25))
        view.callbacks.on_step(entries[-1])
    view.callbacks.on_evaluating(3, 8)
    view.callbacks.on_note(Note("disk full", Event.WARNING))
    rows = dict(view.rows())
    assert rows["loss"] == "1.0000   █▁   -20.000 in 20 steps"
    assert rows["speed"] == "100 tokens/s   memory 3 MiB peak   learning rate 0.001"
    assert rows["digest"] == "abababababababab   gradient norm 0.25"
    assert rows["warning"] == "disk full"
    assert view.seconds_left is not None
    assert "evaluating 3 of 8" in view_html(view)
    assert (
        view.line(entry(3, 0.5, validation_loss=1.25))
        == "step    3  loss 0.5000  held-out 1.2500  100 tokens/s"
    )
    view.callbacks.on_save(2)
    assert "warning" not in dict(view.rows())
