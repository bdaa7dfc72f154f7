# SPDX-License-Identifier: Apache-2.0
"""Runs gsqc train in this process, and reads the log that it wrote."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.runtime.results import StepResult
from tests.cli.run_command import Capture
from tests.runtime.small_bundle import FakeSession


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
    """The lines of the log that the command prints, without its notes."""
    assert main([*arguments(place, steps, run, **changes), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [json.loads(line) for line in captured.out.splitlines()]
    return [line for line in lines if "event" not in line]


def log(place: Path, run: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / run / "log.jsonl").read_text().splitlines()]


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send a signal in the middle of a step, in every session that reaches this step."""

    class Interrupted(FakeSession):
        def step(self, *args: Any) -> StepResult:
            if self.step_count + 1 == step:
                os.kill(os.getpid(), number)
            return super().step(*args)

    monkeypatch.setattr(gsqc.training.open_run, "Session", Interrupted)
