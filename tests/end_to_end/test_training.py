# SPDX-License-Identifier: Apache-2.0
"""Runs of the real step give the same bits with micro-batches, clipping and any interruptions."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from gsqc.cli.main import main
from gsqc.data import DataOptions
from gsqc.training.callbacks import End
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven records, so that steps of eight cross the end of an epoch."""
    file = tmp_path_factory.mktemp("data") / "notes.jsonl"
    file.write_text(
        "".join(f'{{"prompt": "ab{k}", "completion": "cd{k * k}"}}\n' for k in range(11))
    )
    return file


def train(bundle: Path, data: Path, run: Path, *options: str) -> list[dict[str, Any]]:
    """The log of a run of three steps."""
    arguments = ["--data", str(data), "--steps", "3", "--lr", "1e-2", "--run", str(run), *options]
    assert main(["train", str(bundle), *arguments]) == 0
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("clip", [[], ["--clip", "0.05"]], ids=["plain", "clipped"])
def test_any_split_into_micro_batches_gives_the_same_bits(
    bundle: Path, data: Path, tmp_path: Path, clip: list[str]
) -> None:
    """The splits are 1 × 8, 2 × 4, 4 × 2 and 8 × 1."""
    digests = {}
    for batch in (1, 2, 4, 8):
        split = ["--batch", str(batch), "--accumulate", str(8 // batch)]
        digests[batch] = [
            e["digest"] for e in train(bundle, data, tmp_path / str(batch), *split, *clip)
        ]
    assert digests[1] == digests[2] == digests[4] == digests[8]
    seven = train(bundle, data, tmp_path / "7", "--batch", "7", *clip)
    assert seven[0]["digest"] != digests[8][0]


def test_clipping_changes_a_step_only_where_the_norm_is_larger(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    plain = train(bundle, data, tmp_path / "plain")
    wide = train(bundle, data, tmp_path / "wide", "--clip", "1000")
    assert [e["digest"] for e in wide] == [e["digest"] for e in plain]
    norms = [e["gradient_norm"] for e in wide]
    narrow = train(bundle, data, tmp_path / "narrow", "--clip", f"{min(norms) / 2:.6f}")
    assert narrow[0]["gradient_norm"] == norms[0]
    assert narrow[0]["digest"] != plain[0]["digest"]


OPTIONS = TrainOptions(
    9, "1e-2", "cosine", 2, clip="0.5", batch=2, accumulate=2, save_every=4, eval_every=3
)


class Killed(BaseException):
    """The process ends in the middle of a step, so nothing is saved."""


def run_until(bundle: Path, data: Path, path: Path, stop: int, how: str) -> list[dict[str, Any]]:
    """Train to the end (stop 0) or up to a step, and return the log.

    A signal, a signal during the next evaluation, or a kill stops the run there.
    """
    with open_run(bundle, DataOptions((data,), validation=str(data)), path, OPTIONS) as trainer:

        def interrupt(*_: Any) -> None:
            if stop and trainer.step >= stop:
                trainer.interruption.number = signal.SIGINT

        def step(*arguments: Any) -> Any:
            if stop and trainer.step >= stop:
                raise Killed
            return real_step(*arguments)

        real_step = trainer.session.step
        if how == "kill":
            trainer.session.step = step  # type: ignore[method-assign]
        else:
            setattr(
                trainer.callbacks,
                {"signal": "on_step", "evaluation": "on_evaluating"}[how],
                interrupt,
            )
        try:
            end = trainer.run()
            assert end is (End.SIGNAL if stop else End.DONE)
        except Killed:
            assert how == "kill"
        return trainer.entries


def stripped(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log without the fields that depend on the machine's speed."""
    return [
        {k: v for k, v in e.items() if k not in ("tokens_per_second", "peak_rss_bytes")}
        for e in entries
    ]


def test_interrupted_five_times_is_uninterrupted(bundle: Path, data: Path, tmp_path: Path) -> None:
    """The interruptions are at random steps. State, best state and log end the same."""
    rng = random.Random(20261124)
    expected = run_until(bundle, data, tmp_path / "whole", 0, "signal")
    assert sum("validation_loss" in e for e in expected) == 4, (
        "before the first step, and every third"
    )
    run = tmp_path / "run"
    stops = sorted(rng.sample(range(1, OPTIONS.steps), 5))
    for stop, how in zip(stops, ("kill", "signal", "evaluation", "kill", "signal"), strict=True):
        run_until(bundle, data, run, stop, how)
    entries = run_until(bundle, data, run, 0, "signal")
    assert stripped(entries) == stripped(expected)
    assert stripped(
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    ) == stripped(expected)
    for name in ("state.safetensors", "best.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
