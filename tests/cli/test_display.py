# SPDX-License-Identifier: Apache-2.0
"""On a terminal the display stays in place, and the end of the run is printed below it."""

from __future__ import annotations

import io
import re
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

import gsqc.training.open_run
from gsqc.cli import display, main
from gsqc.cli.output import Output
from gsqc.data import DataOptions
from gsqc.training.interruption import ONE_SIGNAL_SECONDS
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    write_bundle(tmp_path / "small.gsqc")
    (tmp_path / "notes.jsonl").write_text('{"prompt": "ab", "completion": "cd"}\n' * 9)
    return tmp_path


def test_a_terminal_shows_where_the_run_is(place: Path) -> None:
    out = Output(False)
    out.console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    reading = DataOptions((place / "notes.jsonl",), validation="0.3")
    with open_run(
        place / "small.gsqc", reading, place / "run", TrainOptions(8, "1e-3", eval_every=4)
    ) as trainer:
        display.show(trainer, out)
    assert isinstance(out.console.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.console.file.getvalue())
    last = shown[shown.rindex("step 8 / 8") :]
    for text in (
        "100 %",
        "loss",
        "0.5000",
        "held-out",
        "lowest",
        "tokens/s",
        "MiB peak",
        "learning rate",
        "digest",
    ):
        assert text in last, text
    assert all(len(line) <= 100 for line in last.splitlines())


@pytest.mark.parametrize("width", [20, 40])
def test_a_narrow_terminal_cuts_lines(place: Path, width: int) -> None:
    entry = {
        "step": 8,
        "loss": 1.0,
        "tokens_per_second": 1.0,
        "peak_rss_bytes": 1,
        "digest": "a" * 64,
    }
    view = display.RunView(8, [entry])
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(display.panel(view))
    assert isinstance(console.file, io.StringIO)
    assert all(len(line) <= width for line in console.file.getvalue().splitlines())


def test_a_second_ctrl_c_ends_without_a_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stubborn(FakeSession):
        def step(self, *arguments: object) -> None:  # type: ignore[override]
            signal.raise_signal(signal.SIGINT)
            time.sleep(ONE_SIGNAL_SECONDS + 0.1)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Stubborn)
    arguments = [
        "--data",
        str(place / "notes.jsonl"),
        "--steps",
        "2",
        "--lr",
        "0.1",
        "--run",
        str(place / "run"),
    ]
    assert main.main(["train", str(place / "small.gsqc"), *arguments]) == 128 + signal.SIGINT
    assert "Traceback" not in capsys.readouterr().err
