# SPDX-License-Identifier: Apache-2.0
"""train: a run that was stopped, killed or resumed has the digests of one that was not."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.errors import DataError
from gsqc.runtime.results import StepResult
from gsqc.training.interruption import ONE_SIGNAL_SECONDS, Interruption
from gsqc.training.memory import peak_rss_bytes
from gsqc.training.trainer import Trainer
from tests.cli.run_command import Capture
from tests.cli.train_command import arguments, interrupt, log, train_json
from tests.runtime.small_bundle import FakeSession


def test_json_lines_are_the_log(capsys: Capture, place: Path) -> None:
    lines = train_json(capsys, place, 3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"step", "loss", "tokens_per_second", "peak_rss_bytes", "digest"} <= set(lines[0])
    assert lines == log(place)
    config = json.loads((place / "run" / "config.json").read_text())
    assert (config["lr"], config["seed"], config["steps"]) == ("0.001", 0, 3)
    assert len(config["data_sha256"]) == 64


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


def test_a_second_signal_stops_at_once() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.exit_code == 130, "signals within a moment are one"
        time.sleep(ONE_SIGNAL_SECONDS + 0.1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_ran_out_of_memory_goes_on_from_its_last_save(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [line["digest"] for line in train_json(capsys, place, 6, "whole")]

    class Killed(FakeSession):
        def step(self, *args: Any) -> StepResult:
            if self.step_count == 4:
                raise MemoryError
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Killed)
    assert main(arguments(place, 6, save_every=3)) == 2
    assert "there is not enough memory; close other programs" in capsys.readouterr().err
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
