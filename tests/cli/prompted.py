# SPDX-License-Identifier: Apache-2.0
"""A bundle whose session answers with the prompt itself, and runs of it on data of each form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gsqc.cli.evaluate
import gsqc.cli.generate
import gsqc.cli.lm_eval
import gsqc.cli.report
import gsqc.runtime.open_session
import gsqc.training.open_run
from gsqc.cli.main import main
from tests.data.small_data import jsonl
from tests.data.templates import CHATML
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle of 512 tokens and a chat template."""
    modules = [gsqc.cli.evaluate, gsqc.cli.generate, gsqc.cli.lm_eval, gsqc.cli.report]
    for module in [*modules, gsqc.runtime.open_session, gsqc.training.open_run]:
        monkeypatch.setattr(module, "Session", FakeSession)
    model = write_bundle(tmp_path / "plain.gsqc")
    manifest = json.loads((model / "manifest.json").read_text())
    part = {**manifest["model"], "chat_template": CHATML}
    (model / "manifest.json").write_text(
        json.dumps({**manifest, "model": part, "sequence_length": 512})
    )
    return tmp_path


def trained(place: Path, *records: Any, name: str = "run", options: tuple[str, ...] = ()) -> Path:
    """A run of two steps on records."""
    data = jsonl(place / f"{name}.jsonl", *records)
    arguments = ["--data", str(data), "--steps", "2", "--run", str(place / name), *options]
    assert main(["train", str(place / "plain.gsqc"), *arguments]) == 0
    return place / name
