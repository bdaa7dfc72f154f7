# SPDX-License-Identifier: Apache-2.0
"""Memory of kernels that run on the host: numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import ALIGNMENT

Array = npt.NDArray[Any]


def aligned_bytes(size: int) -> Array:
    """Zeroed memory that begins at a multiple of ALIGNMENT."""
    # numpy promises no such alignment, and kernels are compiled to rely on it.
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


class HostMemory:
    """The part of `Kernels` (interface.py) that is about memory."""

    def allocate(self, size: int) -> Array:
        """Zeroed, aligned memory."""
        return aligned_bytes(size)

    def place(self, array: Array) -> Array:
        """The array itself: kernels on the host read it where it is."""
        return array

    def clear(self, array: Array) -> None:
        """Zero the array."""
        array.fill(0)
