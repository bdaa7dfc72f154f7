# SPDX-License-Identifier: Apache-2.0
"""Runs kernels of a library for another kind of machine. One emulator process makes all calls."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.sources import FOLDER, runner_sources

Array = np.ndarray[Any, Any]
DRIVER = Path(__file__).with_name("run_kernels.c").resolve()


def what_is_missing(cpu: CpuTarget) -> str | None:
    """Why an emulated target cannot run here, in a line."""
    missing = [tool for tool in (cpu.emulator[0], cpu.compiler[0]) if shutil.which(tool) is None]
    return (
        f"needs {', '.join(missing)}: apt-get install qemu-user gcc-aarch64-linux-gnu"
        if missing
        else None
    )


def _build(cpu: CpuTarget, folder: Path) -> Path:
    program = folder / "run_kernels"
    parts = [source for source in runner_sources() if source != "main.c"]
    command = [*cpu.compiler, "@flags", "-I.", "-o", str(program), str(DRIVER), *parts, "-ldl"]
    subprocess.run(command, check=True, cwd=FOLDER)
    return program


def run_emulated(
    cpu: CpuTarget, library: Path, calls: Sequence[tuple[str, Sequence[Array]]], folder: Path
) -> list[list[Array]]:
    """Every call's arguments (inputs, then outputs) after the call, flat."""
    stream = struct.pack("q", len(calls))
    stream += b"".join(struct.pack("64s", name.encode()) for name, _ in calls)
    for _, arrays in calls:
        stream += struct.pack("q", len(arrays))
        stream += b"".join(struct.pack("qq", a.itemsize, a.size) + a.tobytes() for a in arrays)
    command = [*cpu.emulator, str(_build(cpu, folder)), str(library)]
    done = subprocess.run(command, input=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    results, position = [], 0
    for _, arrays in calls:
        after = []
        for a in arrays:
            after.append(np.frombuffer(done.stdout, a.dtype, a.size, position))
            position += a.nbytes
        results.append(after)
    assert position == len(done.stdout)
    return results
