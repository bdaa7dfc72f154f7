# SPDX-License-Identifier: Apache-2.0
"""Measures how much memory this process has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from gsqc.files.reading import read_file


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far."""
    try:
        status = read_file(Path("/proc/self/status")).decode(errors="replace")
        # ru_maxrss comes second, because it also counts the process that started this one.
        return 1024 * next(
            int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")
        )
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
