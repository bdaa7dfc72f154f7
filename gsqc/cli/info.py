# SPDX-License-Identifier: Apache-2.0
"""gsqc info: shows what a bug report needs about this machine and its installed packages."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from gsqc.bundle.machine import default_threads, machine_cpu_flags, physical_memory
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.cli.targets import target_records
from gsqc.files.reading import read_file
from gsqc.printable import printable
from gsqc.version import __version__

PACKAGES = (
    *("numpy", "safetensors", "tokenizers", "torch", "transformers", "gguf"),
    *("apache-tvm", "apache-tvm-ffi", "ethos-u-vela", "tosa-tools", "onnx"),
)
"""Packages whose versions may matter for a bug."""

VECTOR_FEATURES = re.compile(r"s?sse|avx|amx|fma|popcnt|asimd|sve|sme\d?$|i8mm")
"""The processor features that people read. --json lists all features."""

_NVIDIA = Path("/proc/driver/nvidia/version")


def _installed() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = package_version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> str:
    """The processor's name as the kernel reports it, or else as Python does."""
    try:
        text = read_file(Path("/proc/cpuinfo")).decode(errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _gpu_driver() -> str | None:
    """The version line of NVIDIA's kernel driver, or None without that driver."""
    try:
        return read_file(_NVIDIA).decode(errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return None


def machine_record() -> dict[str, Any]:
    """The whole record, as --json prints it."""
    return {
        "gsqc": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": _installed(),
        "processor": _processor(),
        "machine": platform.machine(),
        "cpu_features": sorted(machine_cpu_flags()),
        "cores": os.cpu_count(),
        "usable_cores": default_threads(),
        "memory_bytes": physical_memory(),
        "gpu_driver": _gpu_driver(),
        "targets": {r["target"]: r["runs_here"] for r in target_records()},
    }


def _rows(record: dict[str, Any]) -> dict[str, str]:
    """The record in a shorter form for people."""
    targets = record["targets"]
    features = (f for f in record["cpu_features"] if VECTOR_FEATURES.match(f))
    return {
        "gsqc": record["gsqc"],
        "Python": f"{record['python']} on {record['system']}",
        **{name: found or "not installed" for name, found in record["packages"].items()},
        "processor": f"{record['processor']}, {record['machine']}",
        "features": " ".join(features),
        "cores": f"{record['cores']}, {record['usable_cores']} of them usable",
        "memory": f"{record['memory_bytes'] / 2**30:.1f} GiB",
        "GPU driver": record["gpu_driver"] or "none",
        "targets that run here": ", ".join(name for name, here in targets.items() if here),
        "other targets": ", ".join(name for name, here in targets.items() if not here),
    }


def info(json: JsonOption = False) -> None:
    """Show versions, processor, memory and targets of this machine, for a bug report."""
    out = Output(json)
    record = machine_record()
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, text in _rows(record).items():
        table.add_row(name, Text(printable(text)))
    out.console.print(table)
    out.emit(record)
