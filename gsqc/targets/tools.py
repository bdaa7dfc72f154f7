# SPDX-License-Identifier: Apache-2.0
"""Compilers and binary tools as subprocesses, with one clear line when one is missing or fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

from gsqc.errors import TargetError


def run_tool(
    command: list[str],
    what: str,
    folder: Path | None = None,
    *,
    install: str = "install a C compiler (gcc)",
) -> str:
    """What a tool prints. TargetError if it is missing (`install` says how to get it) or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise TargetError(f"{what} needs {command[0]}, which is not installed", install) from None
    if done.returncode:
        # Compilers print the cause first, and pages of what follows from it.
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise TargetError(
            f"{what} failed: {first}", "check that the compiler works for this target"
        )
    return done.stdout
