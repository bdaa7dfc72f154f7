# SPDX-License-Identifier: Apache-2.0
"""The short form of the campaign, with fixed seeds: nothing crashes, hangs, or is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first part makes the corpus for all."""
    return tmp_path_factory.mktemp("campaign") / "corpus"


@pytest.mark.needs_target("llvm")
@pytest.mark.parametrize("part", ["mutations", "runner", "kills", "system"])
def test_short_campaign(corpus: Path, part: str) -> None:
    command = [sys.executable, "-m", "tests.campaign", "--corpus", str(corpus), part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
