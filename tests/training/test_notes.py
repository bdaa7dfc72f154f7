# SPDX-License-Identifier: Apache-2.0
"""What a run tells, it tells on every surface: plain lines, a terminal, --json, a notebook, and
the Python API.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import gsqc
import gsqc.training.open_run
from gsqc.bundle.manifest import AdapterPart, MatrixEntry
from gsqc.cli import display
from gsqc.cli.main import main
from gsqc.cli.output import Output
from gsqc.data import DataOptions
from gsqc.errors import RunError
from gsqc.runtime.results import StepResult
from gsqc.runtime.store import RunStore
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from tests.runtime.small_bundle import FakeSession, write_bundle

MATRIX = "layers.0.q_a"
LONG = [{"prompt": "a", "completion": "b" * 50}, *[{"prompt": "a", "completion": "b"}] * 9]


class Still(FakeSession):
    """Its steps change the moments, and no weight."""

    def step(self, *arguments: Any) -> StepResult:
        before = self.tensors[MATRIX].copy()
        result = super().step(*arguments)
        np.copyto(self.tensors[MATRIX], before)
        return result


def fail_to_save(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while the log of step 1 is written."""
    write, calls = RunStore.append_log, []

    def append(store: RunStore, entries: list[dict[str, Any]]) -> None:
        calls.append(entries)
        if len(calls) == 1:
            raise RunError("disk full while saving log.jsonl", "free some space")
        write(store, entries)

    monkeypatch.setattr(RunStore, "append_log", append)


def stand_still(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsqc.training.open_run, "Session", Still)


def begin(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first two steps of the run."""
    with open_at(place, steps=2) as trainer:
        trainer.run()


Before = Callable[[Path, pytest.MonkeyPatch], None]
TOLD: dict[str, tuple[Before | None, dict[str, Any], str, str]] = {
    "cut": (None, {}, "note", "1 records were cut to the sequence length (36 tokens lost)"),
    "held out": (None, {}, "note", "held-out data: 1 records were cut to the sequence length"),
    "forecast": (None, {}, "forecast", "4 steps of 2 sequences: 0.8 epochs of 10 sequences"),
    "time": (None, {}, "forecast", "a step takes "),
    "end": (None, {}, "end", "state saved in run, digest "),
    "best": (None, {}, "note", "lowest held-out loss 1.7500 at step 4; use it with --run run"),
    "resumed": (begin, {}, "note", "run goes on after step 2 of 4"),
    "over": (begin, {"steps": 2}, "end", "run has 2 of 2 steps: nothing to do"),
    "disk": (fail_to_save, {}, "warning", "disk full while saving log.jsonl; the run goes on and"),
    "still": (stand_still, {}, "warning", "no weight has moved in 3 steps"),
}
"""What a run tells: what is done before it, its options, the event, and how the text begins."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a bundle whose matrix is known, and data that is cut."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    monkeypatch.chdir(tmp_path)
    adapter = AdapterPart("lora", {"rank": 4, "alpha": 8}, ("q",), {MATRIX: MatrixEntry(2, 4)})
    write_bundle(tmp_path / "small.gsqc", adapter=adapter)
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in LONG))
    return tmp_path


def open_at(place: Path, **options: Any) -> Any:
    chosen = TrainOptions(**{"steps": 4, "eval_every": 2, **options})
    reading = DataOptions((Path("data.jsonl"),), validation="data.jsonl")
    return open_run(Path("small.gsqc"), reading, Path("run"), chosen)


def arguments(options: dict[str, Any]) -> list[str]:
    given = {"data": "data.jsonl", "validation": "data.jsonl", "run": "run", "steps": 4}
    given |= {"eval_every": 2, **options}
    return ["train", "small.gsqc", *(f"--{k.replace('_', '-')}={v}" for k, v in given.items())]


def from_python(options: dict[str, Any], **more: Any) -> gsqc.TrainResult:
    given: dict[str, Any] = {"validation": "data.jsonl", "steps": 4, "eval_every": 2, **options}
    return gsqc.train("small.gsqc", "data.jsonl", run="run", **given, **more)


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("kind", TOLD)
def test_lines(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, kind: str) -> None:
    before, options, event, text = TOLD[kind]
    if before is not None:
        before(place, monkeypatch)
    assert main(arguments(options)) == 0
    start = "warning: " if event == "warning" else ""
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith(start + text)]) == 1


@pytest.mark.parametrize("kind", TOLD)
def test_json(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, kind: str) -> None:
    before, options, event, text = TOLD[kind]
    if before is not None:
        before(place, monkeypatch)
    assert main([*arguments(options), "--json"]) == 0
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    (found,) = (line for line in told if line.get("text", "").startswith(text))
    assert found["event"] == event
    assert (f"warning: {text}" in captured.err) is (event == "warning")


@pytest.mark.parametrize("kind", TOLD)
def test_python(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, kind: str) -> None:
    before, options, event, text = TOLD[kind]
    if before is not None:
        before(place, monkeypatch)
    told: list[dict[str, Any]] = []
    result = from_python(options, progress=False, on_note=told.append)
    assert len([note for note in result.notes if note.startswith(text)]) == 1
    (found,) = (note for note in told if note["text"].startswith(text))
    assert found["event"] == event
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", TOLD)
def test_notebook(place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before, options, _, text = TOLD[kind]
    if before is not None:
        before(place, monkeypatch)
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    cell, package = ModuleType("IPython.display"), ModuleType("IPython")
    vars(cell).update(
        HTML=lambda html: html, display=lambda html, display_id: (shown.append(html), handle)[1]
    )
    vars(package).update(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", cell)
    from_python(options)
    assert text in " ".join(unescape(shown[-1]).split())


@pytest.mark.parametrize("kind", TOLD)
def test_terminal(place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before, options, _, text = TOLD[kind]
    if before is not None:
        before(place, monkeypatch)
    out = Output(False)
    out.console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    with open_at(place, **options) as trainer:
        display.show(trainer, out)
    assert isinstance(out.console.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.console.file.getvalue())
    assert text in shown


def test_a_stopped_run_tells_how_to_go_on(place: Path, capsys: Capture) -> None:
    def stop(entry: dict[str, Any]) -> None:
        raise gsqc.StopTraining

    result = from_python({}, on_step=stop, progress=False)
    assert result.notes[-1] == "go on with: gsqc train --resume run"
    assert result.notes[-3].startswith(
        "stopped by a callback after step 1 of 4; state saved in run"
    )


def test_the_numbers_of_the_notes(place: Path, capsys: Capture) -> None:
    told: list[dict[str, Any]] = []
    result = from_python({}, progress=False, on_note=told.append)
    (end,) = (note for note in told if note["event"] == "end")
    assert (end["end"], end["step"], end["digest"]) == ("done", 4, result.digest)
    assert (end["best_loss"], end["best_step"]) == (1.75, 4)
    first, second = (note for note in told if note["event"] == "forecast")
    assert (first["steps"], first["sequences_per_step"], first["sequences"]) == (4, 2, 10)
    # Before the first step, after step 2 and at the end.
    assert (first["evaluations"], first["evaluated_sequences"]) == (3, 10)
    assert second["peak_rss_bytes"] == result.log[2]["peak_rss_bytes"]
