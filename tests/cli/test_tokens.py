# SPDX-License-Identifier: Apache-2.0
"""gsqc tokens takes the options of a run, epochs too, and tells what the run would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from gsqc.cli.main import main
from tests.cli.run_command import Capture, run_json

COMMON = ["--lr=1e-3", "--batch=2"]


def tokens(place: Path, name: str, *options: str) -> list[str]:
    data = f"--data={place / 'data.jsonl'}"
    return ["tokens", str(place / "small.gsqc"), data, *COMMON, *options, "-o", str(place / name)]


def content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a token file, and the settings in it."""
    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["settings"])


def test_epochs_are_the_same_as_their_steps(place: Path, capsys: Capture) -> None:
    """Five records, two a step: 1.5 epochs are ⌈1.5 · 5 / 2⌉ = 4 steps."""
    assert main(tokens(place, "epochs.safetensors", "--epochs=1.5")) == 0
    assert main(tokens(place, "steps.safetensors", "--steps=4")) == 0
    by_epochs, by_steps = (content(place / f"{n}.safetensors") for n in ("epochs", "steps"))
    assert by_epochs[0] == by_steps[0]
    assert len(by_epochs[0]["order"]) == 4
    assert by_epochs[1] == {**by_steps[1], "epochs": "1.5"}


def test_it_tells_what_a_run_would_tell(place: Path, capsys: Capture) -> None:
    long = json.dumps({"prompt": "a", "completion": "b" * 50})
    (place / "data.jsonl").write_text(f"{long}\n" * 4)
    code, lines = run_json(capsys, *tokens(place, "t.safetensors", "--steps=4"))
    assert code == 0
    note, forecast, written = lines
    assert (note["event"], forecast["event"]) == ("note", "forecast")
    assert note["text"].startswith("4 records were cut to the sequence length")
    assert (forecast["steps"], forecast["epochs"], forecast["evaluations"]) == (4, 2.0, 0)
    assert written["steps"] == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--steps or --epochs"),
        (["--steps=1", "--epochs=1"], "not both"),
        (["--epochs=1000000000"], "--epochs"),
        (["--epochs=0"], "--epochs 0 of 5 sequences are 0 steps"),
        (["--steps=1", "--eval-limit=5"], "--eval-limit"),
    ],
)
def test_what_it_refuses(place: Path, capsys: Capture, options: list[str], told: str) -> None:
    """gsqc-step evaluates nothing, so options of evaluations are none of a token file."""
    assert main(tokens(place, "t.safetensors", *options)) == 2
    assert told in capsys.readouterr().err
    assert not (place / "t.safetensors").exists()
