# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of this tree in another process, with a mutation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]
FAILED = 1
"""pytest's exit status if a test failed. A mistake in the command gives another one."""


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The quick ones of the tests that are named."""
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "--tb=short"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        check=False,
        cwd=TREE,
        env={**os.environ, "PYTHONPATH": str(TREE)},
        capture_output=True,
        text=True,
    )
