# SPDX-License-Identifier: Apache-2.0
"""Vela, Arm's compiler for Ethos-U, makes a command stream of a TOSA program. It runs as a process
of its own.

Vela has no CPU fallback for TOSA: an operator that the NPU cannot run is an error. Its raw output
is an .npz archive, of which only plain arrays are read.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.errors import TargetError
from gsqc.files.reading import open_file
from gsqc.files.writing import write_new
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.u85.run import Compiled, read_compiled

SEARCH_SECONDS = 30
"""Seconds of a processor that Vela may look for places in SRAM, before it gets less SRAM."""

_VELA = """
import resource, sys
seconds = int(sys.argv.pop(1))
if seconds:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
from ethosu.vela.vela import main
sys.exit(main())
"""
"""Vela with a limit on its time, which is the first argument."""

_TOOLS = {"ethos-u-vela": "ethosu", "tosa-tools": "tosa_serializer"}


class RefusedOperatorError(TargetError):
    """The NPU has no such operator. `operator` is Vela's name for it."""

    def __init__(self, operator: str, accelerator: str) -> None:
        super().__init__(f"{accelerator} has no operator {operator}", "compile for an Ethos-U85")
        self.operator = operator


def tools_installed(*modules: str) -> bool:
    """Whether Python finds these modules. Nothing is imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def require_tools() -> None:
    """TargetError unless what compiles for the NPU is installed."""
    missing = [name for name, module in _TOOLS.items() if not tools_installed(module)]
    if missing:
        raise TargetError(
            f"the NPU's compiler is not installed: {', '.join(missing)}", "pip install 'gsqc[npu]'"
        )


@dataclass(frozen=True)
class LayerEstimate:
    """Vela's estimate of one NPU operation: its kind, the tensor that it makes, and its cycles."""

    kind: str
    tensor: str
    cycles: int
    macs: int


@dataclass(frozen=True)
class VelaOutput:
    """What Vela made of one program.

    payload   the driver's command block ("COP1", then actions), padded to whole words
    compiled  the same in parts: command words, constants, memory regions, inputs and outputs
    summary   Vela's summary: memory in KiB, cycles and bytes moved, all of them estimates
    layers    its estimates by operation
    cpu_operators, npu_operators   its counts
    """

    payload: bytes
    compiled: Compiled
    summary: dict[str, float]
    layers: list[LayerEstimate]
    cpu_operators: int
    npu_operators: int


def _cycle(text: str) -> int:
    # Vela leaves the field empty for what costs nothing, and prints whole numbers as floats.
    return int(float(text or 0))


def _table(path: Path) -> TextIOWrapper:
    return TextIOWrapper(open_file(path), encoding="utf-8", newline="")


def _read_layers(path: Path) -> list[LayerEstimate]:
    with _table(path) as file:
        return [
            LayerEstimate(
                row["NNG Operator"],
                row["Name"].split("/")[0],
                _cycle(row["Op Cycles"]),
                _cycle(row["MAC Count"]),
            )
            for row in csv.DictReader(file)
        ]


def _read_summary(path: Path) -> dict[str, float]:
    with _table(path) as file:
        row = next(csv.DictReader(file))
    # Names and paths stand between the numbers.
    numbers: dict[str, float] = {}
    for name, text in row.items():
        if re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", text):
            numbers[name] = float(text)
    return numbers


def _count(kind: str, printed: str) -> int:
    # -1 and not 0 where the line is missing: no count must not look like no operator on the CPU.
    found = re.search(rf"^{kind} operators = (\d+)", printed, re.MULTILINE)
    return int(found.group(1)) if found else -1


def _refusal(printed: str) -> str:
    """The line in which Vela says why."""
    lines = [line.strip() for line in printed.strip().splitlines()]
    # The last line of a traceback, or of Vela's own messages.
    told = [
        line
        for line in lines
        if re.match(r"(\w+\.)*\w*(Error|error)\b", line) or line.startswith("vela: error")
    ]
    return (told or lines or ["no message"])[-1]


def _payload(path: Path) -> bytes:
    # An array of objects would be unpickled, and a pickle runs code.
    with np.load(path, allow_pickle=False) as arrays:
        payload = bytes(arrays["cmd_data"].tobytes())
    # The driver reads whole words, and Vela may end in the middle of one.
    return payload + b"\0" * (-len(payload) % 4)


class _NoPlacementError(Exception):
    """Vela found no places in SRAM, or not in time. `sram` is its size in bytes, if known."""

    def __init__(self, sram: int | None) -> None:
        super().__init__()
        self.sram = sram


def _run(name: str, program: bytes, options: NpuOptions, seconds: int | None) -> VelaOutput:
    """One run of Vela, of at most `seconds` of a processor's time."""
    with tempfile.TemporaryDirectory(prefix="gsqc-vela-") as directory:
        folder = Path(directory)
        source = folder / f"{name}.tosa"
        write_new(source, program)
        # Vela names its files after the program, and many run at once: each has its own folder.
        written = ["--output-dir", str(folder), "--output-format", "raw", "--verbose-performance"]
        limited = [sys.executable, "-c", _VELA, str(seconds or 0)]
        command = [*limited, str(source), *options.arguments(), *written]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        printed = done.stdout + done.stderr
        raw = folder / f"{name}_vela.npz"
        # Vela's exit code is the same for all of its errors: only its text tells them apart.
        # A missing operator is the user's concern, an SRAM that is too small only run_vela's.
        refused = re.search(r"operation \((\w+)\) could not run on NPU", printed)
        if refused:
            raise RefusedOperatorError(refused.group(1), options.accelerator)
        crowded = re.search(r"Failed to allocate tensors.* limit (\d+)", printed)
        if crowded or done.returncode == -signal.SIGXCPU:
            raise _NoPlacementError(int(crowded.group(1)) if crowded else None)
        if done.returncode or not raw.is_file():
            raise TargetError(
                f"Vela cannot compile {name} for {options.accelerator}: {_refusal(printed)}",
                "check the memory mode and configuration, or take a larger accelerator",
            )
        summary: Any = next(folder.glob("*_summary_*.csv"))
        return VelaOutput(
            payload=_payload(raw),
            compiled=read_compiled(raw),
            summary=_read_summary(summary),
            layers=_read_layers(folder / f"{name}_per-layer.csv"),
            cpu_operators=_count("CPU", printed),
            npu_operators=_count("NPU", printed),
        )


def run_vela(name: str, program: bytes, options: NpuOptions) -> VelaOutput:
    """Compile one TOSA program. TargetError if Vela is not installed or cannot place the whole
    program on the NPU.

    Vela searches for tensors that fit in SRAM together. A program slightly too large can keep this
    search busy for minutes, or defeat it. Then Vela is given less SRAM, an eighth less each time.
    More of the program then lies in DRAM, and its results are the same.
    """
    require_tools()
    # None leaves the memory mode's own size, which only Vela knows until it fails.
    sram = None if options.sram_kib is None else options.sram_kib << 10
    for eighths in range(8, 0, -1):
        less = options if sram is None else replace(options, sram_kib=max(1, sram * eighths >> 13))
        try:
            return _run(name, program, less, SEARCH_SECONDS if sram is not None else None)
        except _NoPlacementError as error:
            sram = sram or error.sram
    raise TargetError(
        f"Vela finds no place for the tensors of {name} in the SRAM of {options.memory_mode}",
        "give more with --sram-kib, or a shorter --seq",
    )
