# SPDX-License-Identifier: Apache-2.0
"""gsqc-step, the runner without Python: built from gsqc/runner for a bundle's target.

Its sources are package data: `gsqc compile --runner` builds them for the target, which a ready
binary could not serve.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from gsqc.files.reading import read_file
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.sources import FOLDER, runner_sources
from gsqc.targets.tools import run_tool


def build_runner(cpu: CpuTarget) -> bytes:
    """The stripped program. TargetError if the target's C compiler is missing or fails."""
    with tempfile.TemporaryDirectory(prefix="gsqc-") as directory:
        program = Path(directory) / "gsqc-step"
        command = [*cpu.compiler, "@flags", "-s", "-o", str(program), *runner_sources(), "-ldl"]
        run_tool(command, "building gsqc-step", FOLDER)
        return read_file(program)
