# SPDX-License-Identifier: Apache-2.0
"""This machine: its CPU's features, its cores, its memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gsqc.files.reading import read_file
from gsqc.limits import MAXIMUM_THREADS
from gsqc.values import require_whole


def machine_cpu_flags() -> set[str]:
    """The names of the CPU's features, as Linux reports them. Empty where it reports none."""
    try:
        text = read_file(Path("/proc/cpuinfo")).decode(errors="replace")
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())


def default_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_threads(wanted: Any) -> int | None:
    """The threads that are asked for, or None if none are. Raises OptionError."""
    return None if wanted is None else require_whole("threads", wanted, 1, MAXIMUM_THREADS)


def thread_count(wanted: int | None) -> int:
    """The threads to use: those that were asked for, or one for each core. Raises OptionError."""
    return require_threads(wanted) or min(default_threads(), MAXIMUM_THREADS)


def physical_memory() -> int:
    """The memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
