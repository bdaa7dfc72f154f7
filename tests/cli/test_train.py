# SPDX-License-Identifier: Apache-2.0
"""train: a run that was stopped, killed or resumed has the digests of one that was not."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.errors import DataError
from gsqc.runtime.results import StepResult
from gsqc.training.interruption import Interruption
from gsqc.training.memory import peak_rss_bytes
from gsqc.training.trainer import Trainer
from tests.runtime.small_bundle import FakeSession, other_state, write_bundle

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle and data."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    write_bundle(tmp_path / "small.gsqc")
    records = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


def arguments(place: Path, steps: int, run: str = "run", **changes: object) -> list[str]:
    options = {
        "data": place / "data.jsonl",
        "steps": steps,
        "lr": "1e-3",
        "run": place / run,
        **changes,
    }
    return [
        "train",
        str(place / "small.gsqc"),
        *(f"--{k.replace('_', '-')}={v}" for k, v in options.items()),
    ]


def train_json(
    capsys: Capture, place: Path, steps: int, run: str = "run", **changes: object
) -> list[dict[str, Any]]:
    assert main([*arguments(place, steps, run, **changes), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


def log(place: Path, run: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / run / "log.jsonl").read_text().splitlines()]


def test_json_lines_are_the_log(capsys: Capture, place: Path) -> None:
    lines = train_json(capsys, place, 3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"step", "loss", "tokens_per_second", "peak_rss_bytes", "digest"} <= set(lines[0])
    assert lines == log(place)
    config = json.loads((place / "run" / "config.json").read_text())
    assert (config["lr"], config["seed"], config["steps"]) == ("0.001", 0, 3)
    assert len(config["data_sha256"]) == 64


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """A signal comes in the middle of a step, of this and of later sessions that reach it."""

    class Interrupted(FakeSession):
        def step(self, *args: Any) -> StepResult:
            if self.step_count + 1 == step:
                os.kill(os.getpid(), number)
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Interrupted)


@pytest.mark.parametrize("parts", [(3, 6), (1, 2, 6), (6, 6)])
def test_steps_are_the_total_and_a_resumed_run_equals_a_whole_one(
    capsys: Capture, place: Path, parts: Sequence[int]
) -> None:
    whole = [line["digest"] for line in train_json(capsys, place, 6, "whole", seed=3)]
    made = [train_json(capsys, place, steps, seed=3) for steps in parts]
    assert [line["digest"] for lines in made for line in lines] == whole
    assert [line["digest"] for line in log(place)] == whole


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves(
    capsys: Capture,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    number: int,
    code: int,
) -> None:
    options = {"warmup": 2, "schedule": schedule, "save_every": 4}
    whole = [line["digest"] for line in train_json(capsys, place, 6, "whole", **options)]
    before = signal.getsignal(number)
    interrupt(monkeypatch, 3, number)
    assert main(arguments(place, 6, **options)) == code
    assert "stopped after step 3 of 6; state saved" in capsys.readouterr().out
    assert signal.getsignal(number) is before
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    assert [line["step"] for line in train_json(capsys, place, 6, **options)] == [4, 5, 6]
    assert [line["digest"] for line in log(place)] == whole


def test_a_signal_before_the_first_step(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_catch_up", lambda _: os.kill(os.getpid(), signal.SIGINT))
        assert main(arguments(place, 6)) == 130
    assert "stopped after step 0 of 6; nothing to save yet" in capsys.readouterr().out
    assert main(["train", "--resume", str(place / "run")]) == 0
    assert [line["step"] for line in log(place)] == [1, 2, 3, 4, 5, 6]


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


def test_a_second_signal_stops_at_once() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_killed_run_goes_on_from_its_last_save(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [line["digest"] for line in train_json(capsys, place, 6, "whole")]

    class Killed(FakeSession):
        def step(self, *args: Any) -> StepResult:
            if self.step_count == 4:
                raise MemoryError
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Killed)
    with pytest.raises(MemoryError):
        main(arguments(place, 6, save_every=3))
    assert len(log(place)) == 4
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    capsys.readouterr()
    assert [line["step"] for line in train_json(capsys, place, 6)] == [4, 5, 6]
    assert [line["digest"] for line in log(place)] == whole


def test_a_full_disk_is_told_and_the_saved_state_goes_on(capsys: Capture, place: Path) -> None:
    train_json(capsys, place, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (place / "run" / "log.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        assert main([*arguments(place, 4), "--json"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "disk full while saving" in error["error"]
    assert [line["step"] for line in train_json(capsys, place, 4)] == [3, 4]


def test_a_finished_run_is_left_alone(capsys: Capture, place: Path) -> None:
    train_json(capsys, place, 3)
    before = log(place)
    assert train_json(capsys, place, 3) == []
    assert main(arguments(place, 2)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert log(place) == before


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


def test_a_refused_batch_keeps_the_steps_before_it(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses(FakeSession):
        def step(self, *args: Any) -> StepResult:
            if self.step_count == 2:
                raise DataError("refused", "hint")
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Refuses)
    assert main(arguments(place, 6)) == 2
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    capsys.readouterr()
    assert [line["step"] for line in train_json(capsys, place, 4)] == [3, 4]


def test_what_was_cut_is_reported(capsys: Capture, place: Path) -> None:
    (place / "data.jsonl").write_text('{"prompt": "a", "completion": "' + "b" * 50 + '"}\n')
    assert main(arguments(place, 1)) == 0
    assert "1 records were cut" in capsys.readouterr().out


def test_peak_memory_is_in_bytes() -> None:
    assert 10 << 20 < peak_rss_bytes() < 1 << 40
