# SPDX-License-Identifier: Apache-2.0
"""gsqc-step, the runner without Python: built from gsqc/runner for a bundle's target.

Its sources are package data: `gsqc compile --runner` builds them for the target, which a ready binary could not serve.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import gsqc
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.tools import run_tool

SOURCES = Path(gsqc.__file__).parent / "runner"


def build_runner(cpu: CpuTarget) -> bytes:
    """The stripped program. TargetError if the target's C compiler is missing or fails."""
    sources = [
        str(path.relative_to(SOURCES)) for pattern in ("*.c", "third_party/*/*.c") for path in SOURCES.glob(pattern)
    ]
    with tempfile.TemporaryDirectory(prefix="gsqc-") as directory:
        program = Path(directory) / "gsqc-step"
        run_tool(
            [*cpu.compiler, "@flags", "-s", "-o", str(program), *sorted(sources), "-ldl"], "building gsqc-step", SOURCES
        )
        return program.read_bytes()
