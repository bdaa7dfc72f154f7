# SPDX-License-Identifier: Apache-2.0
"""train: settings reach the steps, and a run goes on only with those that it began with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.runtime.results import StepResult
from tests.cli.run_command import Capture
from tests.cli.train_command import arguments, interrupt, train_json
from tests.runtime.small_bundle import FakeSession, other_state, write_bundle


def test_each_step_gets_its_rate_and_decay(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Fraction, Fraction]] = []

    class Notes(FakeSession):
        def step(self, *args: Any) -> StepResult:
            given.append(args[1:3])
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Notes)
    train_json(capsys, place, 4, warmup=2, schedule="linear", weight_decay="0.1")
    assert [rate * 2000 for rate, _ in given] == [1, 2, 2, 1]
    assert {decay for _, decay in given} == {Fraction(1, 10)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": "2e-3"}, "lr was 0.001, is 0.002"),
        ({"seed": 1}, "seed"),
        ({"warmup": 1}, "warmup"),
        ({"weight_decay": "0.1"}, "weight_decay"),
        ({"schedule": "linear"}, "schedule"),
        ({"data": "other.jsonl"}, "data_sha256"),
    ],
)
def test_a_run_goes_on_with_its_own_settings_only(
    capsys: Capture, place: Path, changes: dict[str, object], told: str
) -> None:
    train_json(capsys, place, 2)
    if "data" in changes:
        (place / "other.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        changes = {"data": place / "other.jsonl"}
    assert main(arguments(place, 4, **changes)) == 2
    assert told in capsys.readouterr().err


def test_a_linear_run_keeps_its_total(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2)
    assert main(arguments(place, 6, schedule="linear")) == 130
    assert main(arguments(place, 8, schedule="linear")) == 2
    assert "steps was 6, is 8" in capsys.readouterr().err


def test_a_run_of_another_bundle_is_refused(capsys: Capture, place: Path) -> None:
    train_json(capsys, place, 2)
    write_bundle(place / "other.gsqc", state=other_state())
    (place / "small.gsqc").rename(place / "moved.gsqc")
    (place / "other.gsqc").rename(place / "small.gsqc")
    assert main(arguments(place, 4)) == 2
    assert "another bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": "fast"}, "--lr"),
        ({"lr": "2"}, "--lr"),
        ({"weight_decay": "-1"}, "--weight-decay"),
        ({"schedule": "square"}, "square"),
        ({"warmup": 5}, "warm-up"),
        ({"data": "absent.jsonl"}, "absent.jsonl"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    capsys: Capture, place: Path, changes: dict[str, object], told: str
) -> None:
    assert main(arguments(place, 4, **changes)) == 2
    assert told in capsys.readouterr().err
    assert not (place / "run").exists()
