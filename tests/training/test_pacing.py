# SPDX-License-Identifier: Apache-2.0
"""--pace and --pause-below: a run rests, and stops when the battery is low. Its bits stay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.battery
import gsqc.training.open_run
import gsqc.training.pacing
from gsqc.data import DataOptions
from gsqc.errors import OptionError
from gsqc.runtime.store import STATE
from gsqc.training.battery import Battery, read_battery
from gsqc.training.callbacks import End
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    monkeypatch.setattr(gsqc.training.battery, "SUPPLIES", tmp_path / "supplies")
    write_bundle(tmp_path / "small.gsqc")
    records = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


def supply(place: Path, name: str = "BAT0", **files: str) -> None:
    folder = place / "supplies" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in {"type": "Battery", "status": "Discharging", **files}.items():
        (folder / file).write_text(f"{text}\n")


def train(place: Path, run: str, **options: Any) -> tuple[End, int, str, list[str]]:
    chosen = TrainOptions(**{"steps": 6, "lr": "1e-3", **options})
    reading = DataOptions((place / "data.jsonl",))
    with open_run(place / "small.gsqc", reading, place / run, chosen) as trainer:
        end = trainer.run()
        return end, trainer.step, trainer.session.digest(), [n.text for n in trainer.notes]


def test_a_paced_run_rests_and_has_the_same_digest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(gsqc.training.pacing, "time", clock)
    plain = train(place, "plain")
    assert clock.slept == 0
    paced = train(place, "paced", pace="25%")
    assert plain[:3] == paced[:3]
    # Each look at this clock takes 1/8 s, so a step takes that and a rest is 3/8 s at most. Of each
    # rest two looks are not slept.
    assert 5 / 8 <= clock.slept <= 5 * 3 / 8


class Clock:
    """Stands for the module time: each look at it takes 1/8 s."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0.0

    def monotonic(self) -> float:
        self.now += 1 / 8
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_the_rest_makes_the_share(place: Path) -> None:
    chosen = TrainOptions(steps=1, pace="25%")
    told: list[Any] = []
    pacing = gsqc.training.pacing.Pacing(chosen, Stopped(None), told.append)  # type: ignore[arg-type]
    assert pacing.stretched(2.0) == 8.0
    assert not pacing.stops_before_step()
    start = time.monotonic()
    time.sleep(0.05)
    pacing.stops_before_step()
    # Three times the work of 0.05 s. A loaded machine takes longer, never less.
    assert time.monotonic() - start >= 0.2


class Stopped:
    """Stands for an Interruption."""

    def __init__(self, number: int | None) -> None:
        self.number = number


def test_an_interruption_ends_the_rest(place: Path) -> None:
    chosen = TrainOptions(steps=1, pace="0.001%")
    stopped = Stopped(None)
    pacing = gsqc.training.pacing.Pacing(chosen, stopped, print)  # type: ignore[arg-type]
    pacing.stops_before_step()
    time.sleep(0.01)
    stopped.number = 2
    start = time.monotonic()
    assert pacing.stops_before_step()
    assert time.monotonic() - start < 100  # without it, the rest takes a quarter of an hour


def test_a_low_battery_stops_the_run_with_its_state_saved(place: Path) -> None:
    supply(place, capacity="19")
    end, step, _, notes = train(place, "run", pause_below="20%")
    assert (end, step) == (End.SIGNAL, 0)
    assert "the battery is at 19 %, below 20%: the run stops" in notes
    supply(place, capacity="20")
    end, step, digest, _ = train(place, "run", pause_below="20%")
    assert (end, step) == (End.DONE, 6)
    assert (place / "run" / STATE).exists()
    assert digest == train(place, "other")[2]


def test_a_battery_that_falls_in_the_middle(place: Path) -> None:
    supply(place, capacity="50")
    chosen = TrainOptions(steps=6, lr="1e-3", pause_below="20%")
    reading = DataOptions((place / "data.jsonl",))
    with open_run(place / "small.gsqc", reading, place / "run", chosen) as trainer:
        trainer.callbacks.on_step = lambda entry: entry["step"] == 2 and supply(place, capacity="3")
        assert trainer.run() is End.SIGNAL
        assert trainer.step == 2
        assert trainer.interruption.exit_code == 130
        assert any("go on with: gsqc train --resume" in note.text for note in trainer.notes)
    assert (place / "run" / STATE).exists()


def test_a_charging_battery_stops_nothing(place: Path) -> None:
    supply(place, capacity="5", status="Charging")
    assert train(place, "run", pause_below="20%")[0] is End.DONE


def test_no_battery_is_told_once(place: Path) -> None:
    end, _, _, notes = train(place, "run", pause_below="20%")
    assert end is End.DONE
    assert sum("shows no battery" in text for text in notes) == 1


def test_batteries_are_read(place: Path) -> None:
    supplies = place / "supplies"
    assert read_battery(supplies) is None
    supply(place, "AC", type="Mains", online="1")
    supply(place, "mouse", capacity="2", scope="Device")
    supply(place, "broken", capacity="full")
    assert read_battery(supplies) is None
    supply(place, "BAT0", capacity="40")
    supply(place, "BAT1", capacity="81", status="Full")
    assert read_battery(supplies) == Battery(60, True)
    supply(place, "BAT1", capacity="999")
    assert read_battery(supplies) == Battery(70, False)


@pytest.mark.parametrize("text", ["0%", "50", "half", "101%", "-5%", "%", ""])
@pytest.mark.parametrize("name", ["pace", "pause_below"])
def test_what_is_no_share_is_refused(name: str, text: str) -> None:
    with pytest.raises(OptionError, match="is not a share above 0%"):
        TrainOptions(steps=1, **{name: text})
