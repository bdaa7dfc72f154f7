# SPDX-License-Identifier: Apache-2.0
"""Evaluations take a fixed draw of the held-out sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gsqc.training.open_run
from gsqc.data import DataOptions, Dataset, TokenSequence
from gsqc.errors import RunError
from gsqc.training.callbacks import StopTraining
from gsqc.training.held_out import HeldOut
from gsqc.training.open_run import open_run
from gsqc.training.options import EVALUATED, TrainOptions
from tests.runtime.small_bundle import FakeSession, write_bundle


def sequences(count: int) -> list[TokenSequence]:
    """Sequences that hold their own numbers."""
    return [TokenSequence(*[np.full(1, k, np.int32) for _ in range(3)]) for k in range(count)]


def drawn(count: int, limit: int) -> list[int]:
    held_out = HeldOut.of(Dataset(sequences(count)), limit)
    assert len(held_out.drawn()) == held_out.count()
    return [int(s.tokens[0]) for s in held_out.drawn()]


def test_the_draw_is_fixed() -> None:
    """These numbers are written out: they must be the same on every machine and in every version,
    or a run that goes on would compare losses of different sequences.
    """
    assert drawn(1000, 8) == [62, 251, 474, 482, 620, 713, 880, 970]


@pytest.mark.parametrize("count", [1, 7, 100, 250])
@pytest.mark.parametrize("limit", [0, 1, 7, 100, 1000])
def test_it_has_as_many_as_there_are_or_as_the_limit(count: int, limit: int) -> None:
    found = drawn(count, limit)
    assert len(found) == len(set(found)) == (min(count, limit) if limit else count)
    assert found == sorted(found)
    assert set(found) <= set(range(count))


def test_without_held_out_data_nothing_is_drawn() -> None:
    assert HeldOut.of(None, 5).count() == 0
    assert list(HeldOut.of(None, 5).drawn()) == []


class Counts(FakeSession):
    """Counts the sequences of each evaluation."""

    counts: list[int] = []  # noqa: RUF012

    def evaluate(self, sequences: Any, watch: Any = lambda done: None) -> Any:
        self.counts.append(len(sequences))
        return super().evaluate(sequences, watch)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle and 150 records."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", Counts)
    monkeypatch.setattr(Counts, "counts", [])
    write_bundle(tmp_path / "small.gsqc")
    (tmp_path / "data.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 150)
    return tmp_path


def open_at(place: Path, **options: Any) -> Any:
    data = place / "data.jsonl"
    chosen = TrainOptions(**{"steps": 4, "eval_every": 2, **options})
    reading = DataOptions((data,), validation=str(data))
    return open_run(place / "small.gsqc", reading, place / "run", chosen)


@pytest.mark.parametrize(("options", "each"), [({}, EVALUATED), ({"eval_limit": 0}, 150)])
def test_each_evaluation_takes_as_many(place: Path, options: dict[str, int], each: int) -> None:
    with open_at(place, **options) as trainer:
        trainer.run()
    assert Counts.counts == [each] * 3


# Each record has two tokens with a loss: the completion's letter and the end.


def stop_at_2(entry: dict[str, Any]) -> None:
    if entry["step"] == 2:
        raise StopTraining


def test_a_run_goes_on_with_the_sequences_that_it_began_with(place: Path) -> None:
    with open_at(place, eval_limit=20) as trainer:
        trainer.callbacks.on_step = stop_at_2
        trainer.run()
    with (
        pytest.raises(RunError, match="held-out losses of 40 tokens, and new ones of 60") as error,
        open_at(place, eval_limit=30),
    ):
        pass
    assert "--eval-limit 20" in error.value.hint
    config = place / "run" / "config.json"
    config.write_text(config.read_text().replace("eval_limit", "another"))  # as gsqc-step does
    with open_at(place, eval_limit=20) as trainer:
        trainer.run()
    assert Counts.counts == [20] * 3


def test_limits_above_the_number_of_sequences_are_one(place: Path) -> None:
    with open_at(place, eval_limit=0) as trainer:
        trainer.callbacks.on_step = stop_at_2
        trainer.run()
    with pytest.raises(RunError, match="held-out losses of 300 tokens"), open_at(place):
        pass
    with open_at(place, eval_limit=500) as trainer:
        assert trainer.run() == "done"
