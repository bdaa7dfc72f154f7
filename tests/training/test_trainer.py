# SPDX-License-Identifier: Apache-2.0
"""Evaluation, the best state, early stopping and saving, with a session of plain arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.data import DataOptions
from gsqc.errors import OptionError, RunError
from gsqc.runtime.store import STATE, RunStore
from gsqc.training.callbacks import End, Event, Note, StopTraining
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from gsqc.training.view import RunView
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle and data. The held-out loss falls up to step 6, then rises."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    write_bundle(tmp_path / "small.gsqc")
    records = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


def open_at(place: Path, run: str = "run", validation: bool = True, **options: Any) -> Any:
    data = place / "data.jsonl"
    chosen = TrainOptions(**{"steps": 12, "lr": "1e-3", **options})
    reading = DataOptions((data,), validation=str(data) if validation else None)
    return open_run(place / "small.gsqc", reading, place / run, chosen)


def train(place: Path, run: str = "run", **options: Any) -> tuple[End, list[dict[str, Any]]]:
    with open_at(place, run, **options) as trainer:
        return trainer.run(), trainer.entries


def evaluated(entries: list[dict[str, Any]]) -> list[int]:
    return [e["step"] for e in entries if "validation_loss" in e]


def test_it_evaluates_before_training_every_n_steps_and_at_the_end(place: Path) -> None:
    assert evaluated(train(place, "a", eval_every=5)[1]) == [0, 5, 10, 12]
    assert evaluated(train(place, "b", steps=30)[1]) == [0, *range(3, 31, 3)]
    assert evaluated(train(place, "c", validation=False)[1]) == []
    log = [json.loads(line) for line in (place / "a" / "log.jsonl").read_text().splitlines()]
    assert log[0] == {"step": 0, "validation_loss": 2.25, "validation_tokens": 15, "best": True}
    assert [entry["step"] for entry in log] == list(range(13))


def test_the_best_state_is_kept(place: Path) -> None:
    with open_at(place, eval_every=2) as trainer:
        assert trainer.run() is End.DONE
        assert (trainer.best.loss, trainer.best.step) == (1.5, 6)
        store = trainer.store
    best = FakeSession(place / "small.gsqc", place / "run", best=True)
    assert best.step_count == 6
    train(place, "six", steps=6)
    assert (store.path / "best.safetensors").read_bytes() == (place / "six" / STATE).read_bytes()


@pytest.mark.parametrize("stop", [None, 8, 9])
def test_early_stopping_counts_on_over_a_pause(place: Path, stop: int | None) -> None:
    """Evaluations are at 2, 4, 6, 8 and 10. The two after step 6 bring no lower loss."""
    options: dict[str, Any] = {"eval_every": 2, "patience": 2, "save_every": 1}
    if stop is not None:
        with open_at(place, **options) as trainer:
            trainer.callbacks.on_step = lambda entry: stop_at(entry, stop)
            assert trainer.run() is End.CALLBACK
    end, entries = train(place, **options)
    assert (end, entries[-1]["step"]) == (End.EARLY, 10)
    with open_at(place, **options) as trainer:
        assert trainer.end is End.EARLY
    assert train(place, **{**options, "patience": None})[1][-1]["step"] == 12


def stop_at(entry: dict[str, Any], step: int) -> None:
    if entry["step"] == step:
        raise StopTraining


def test_an_evaluation_that_was_cut_short_is_made_up_for(place: Path) -> None:
    whole = train(place, "whole", eval_every=4)[1]
    with open_at(place, eval_every=4) as trainer:
        trainer.callbacks.on_evaluating = lambda done, count: interrupt(trainer, 8)
        assert trainer.run() is End.SIGNAL
        assert evaluated(trainer.entries) == [0, 4]
    assert len((place / "run" / "log.jsonl").read_text().splitlines()) == 9
    entries = train(place, eval_every=4)[1]
    assert evaluated(entries) == evaluated(whole) == [0, 4, 8, 12]
    assert [e.get("digest") for e in entries] == [e.get("digest") for e in whole]


def interrupt(trainer: Any, step: int) -> None:
    if trainer.step == step:
        trainer.interruption.number = 2


def test_an_error_of_a_callback_loses_no_step(place: Path) -> None:
    with open_at(place, validation=False) as trainer:
        trainer.callbacks.on_step = lambda entry: {}[entry["step"]] if entry["step"] == 7 else None
        with pytest.raises(KeyError):
            trainer.run()
    with open_at(place, validation=False) as trainer:
        assert trainer.step == 7


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """While `full` is set, nothing can be written to a run."""
    disk = {"full": False}
    for name in ("save_state", "append_log", "write_log"):
        write = getattr(RunStore, name)

        def checked(*arguments: Any, write: Any = write) -> None:
            if disk["full"]:
                raise RunError("disk full while saving", "free some space")
            write(*arguments)

        monkeypatch.setattr(RunStore, name, checked)
    return disk


def test_a_disk_that_is_full_for_a_while_loses_nothing(
    place: Path, full_disk: dict[str, bool]
) -> None:
    """The run goes on, and later writes the log, the state, and the best state of step 6."""
    whole = train(place, "whole", eval_every=2, save_every=2)[1]
    told: list[Note] = []
    with open_at(place, eval_every=2, save_every=2) as trainer:
        trainer.callbacks.on_note = lambda note: told.append(note)
        trainer.callbacks.on_step = lambda entry: full_disk.update(
            full=entry["step"] in range(5, 9)
        )
        assert trainer.run() is End.DONE
    assert any("disk full" in note.text for note in told if note.event is Event.WARNING)
    log = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert [e.get("digest") for e in log] == [e.get("digest") for e in whole]
    for name in ("state.safetensors", "best.safetensors"):
        assert (place / "run" / name).read_bytes() == (place / "whole" / name).read_bytes()


def test_a_disk_that_is_full_at_the_beginning_loses_nothing(
    place: Path, full_disk: dict[str, bool]
) -> None:
    """The first evaluation's line and best state are written later."""
    with open_at(place, eval_every=12) as trainer:
        full_disk["full"] = True
        trainer.callbacks.on_step = lambda entry: full_disk.update(full=entry["step"] < 3)
        trainer.run()
    log = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(13))
    assert "validation_loss" in log[0]
    assert FakeSession(place / "small.gsqc", place / "run", best=True).step_count == 0


def test_a_disk_that_stays_full_is_an_error_at_the_end(
    place: Path, full_disk: dict[str, bool]
) -> None:
    with open_at(place, save_every=2, validation=False) as trainer:
        trainer.callbacks.on_step = lambda entry: full_disk.update(full=entry["step"] >= 4)
        with pytest.raises(RunError, match="disk full"):
            trainer.run()
    full_disk["full"] = False
    with open_at(place, save_every=2, validation=False) as trainer:
        assert trainer.step == 4, "what was saved before is whole"
        assert trainer.run() is End.DONE


def test_patience_needs_held_out_data(place: Path) -> None:
    with (
        pytest.raises(OptionError, match="--patience"),
        open_at(place, validation=False, patience=2),
    ):
        pass
    assert not (place / "run").exists()


def test_a_run_that_is_trained_is_not_opened_twice(place: Path) -> None:
    with open_at(place), pytest.raises(RunError, match="is being trained"), open_at(place):
        pass


def test_held_out_data_cannot_change_within_a_run(place: Path) -> None:
    train(place, steps=2)
    other = place / "other.jsonl"
    other.write_text('{"prompt": "a", "completion": "b"}\n')
    options, reading = (
        TrainOptions(4, "1e-3"),
        DataOptions((place / "data.jsonl",), validation=str(other)),
    )
    with (
        pytest.raises(RunError, match="validation_sha256"),
        open_run(place / "small.gsqc", reading, place / "run", options),
    ):
        pass


@pytest.mark.parametrize(
    "odd", [None, True, "x", [], {}, 10**400, float("nan"), float("inf"), -float("inf"), 1e300]
)
def test_odd_lines_in_a_log_stop_no_run(place: Path, odd: Any) -> None:
    """The log may be a stranger's, and it decides nothing but what is shown."""
    train(place, steps=3, eval_every=1)
    log = place / "run" / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    names = [*lines[-1], "gradient_norm"]
    lines[1:1] = [{**lines[1], name: odd} for name in names] + [odd, [odd], {"step": 2}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_at(place, steps=6, eval_every=1) as trainer:
        view = RunView(6, trainer.entries)
        assert trainer.run() is End.DONE
        assert dict(view.rows())["held-out"].startswith("1.5000 at step 6")
