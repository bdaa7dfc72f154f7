# SPDX-License-Identifier: Apache-2.0
"""C sources that a bundle's code is built from, for its target: what is linked to the kernels, and
gsqc-step.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "runner"

LIBRARY = tuple(FOLDER / name for name in ("library/library.c", "backend.c", "threads.c"))
"""Beside the kernels in kernels.so: threads, and the loop over calls that the Python runtime uses.
"""


def runner_sources() -> list[str]:
    """Those of gsqc-step, relative to FOLDER."""
    return sorted(
        str(p.relative_to(FOLDER))
        for pattern in ("*.c", "third_party/*/*.c")
        for p in FOLDER.glob(pattern)
    )
