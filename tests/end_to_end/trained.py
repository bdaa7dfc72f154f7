# SPDX-License-Identifier: Apache-2.0
"""A run of the tiny model and its exports, for tests that compare other programs with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from gsqc.bundle.bundle import Bundle
from gsqc.check.sequences import random_sequences
from gsqc.cli.main import main
from gsqc.export.adapter import TrainedAdapter, read_adapter
from gsqc.runtime.session import Session
from tests.end_to_end.test_session import RATE

TEXT = list(b"The rain in Spain stays ")


def train(bundle: Path, path: Path) -> Path:
    """Twelve steps: enough that the adapter moves the logits by tens of percent."""
    session = Session(bundle, path)
    for k in range(1, 13):
        session.step(random_sequences(session.bundle, k, 0), RATE)
    session.save()
    return path


def export(bundle: Path, run: Path, *arguments: object) -> None:
    assert main(["export", str(bundle), "--run", str(run), *map(str, arguments)]) == 0


class Trained:
    """A model's file, its bundle, a run of it, and its PEFT export."""

    def __init__(self, model: Path, bundle: Path, folder: Path) -> None:
        self.model, self.bundle, self.folder = model, bundle, folder
        self.run, self.peft = train(bundle, folder / "run"), folder / "peft"
        export(bundle, self.run, "--peft", self.peft)

    def adapter(self) -> TrainedAdapter:
        return read_adapter(Bundle.open(self.bundle), self.run)

    def merged(self, *arguments: object, name: str = "merged") -> Path:
        export(
            self.bundle,
            self.run,
            "--merged",
            self.folder / name,
            "--model",
            self.model,
            "--force",
            *arguments,
        )
        return self.folder / name


def float_model(path: Path) -> Any:
    if path.is_file():
        return AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype="float32"
        ).eval()
    return AutoModelForCausalLM.from_pretrained(path).eval()
