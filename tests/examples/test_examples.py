# SPDX-License-Identifier: Apache-2.0
"""The example scripts, as a user runs them: on the real model, with the commands on PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", sorted(path.name for path in EXAMPLES.glob("*.sh") if path.name != "demo.sh")
)
def test_it_runs(script: str, tmp_path: Path) -> None:
    """tests/golden/test_demo.py runs the demo, and compares what it prints."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", str(EXAMPLES / script), str(tmp_path)], env=environment, check=True)
