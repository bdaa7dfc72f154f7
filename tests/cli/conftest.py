# SPDX-License-Identifier: Apache-2.0
"""What several tests of gsqc train share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gsqc.training.open_run
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle and data."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    write_bundle(tmp_path / "small.gsqc")
    records = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path
