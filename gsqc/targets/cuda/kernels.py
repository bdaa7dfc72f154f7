# SPDX-License-Identifier: Apache-2.0
"""Kernels on an NVIDIA GPU.

All tensors lie in memory that host and GPU share, so a session reads and writes them as it does on
a CPU. Their pages move to the GPU when its kernels first touch them, and stay there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ctypes import addressof, c_void_p
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import COPY
from gsqc.errors import BundleError
from gsqc.limits import MAXIMUM_THREADS
from gsqc.targets.cuda.driver import CudaDriver
from gsqc.targets.interface import Call
from gsqc.values import require_whole

Array = npt.NDArray[Any]
AGAIN = "compile the model again"
_MOST_BLOCKS, _MOST_THREADS = 2**31 - 1, 1024


def _read_launches(content: bytes) -> dict[str, tuple[int, int]]:
    """How many blocks and threads each kernel takes. BundleError if a GPU cannot take a number."""
    try:
        launches = {str(name): tuple(numbers) for name, numbers in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        launches = {"": ()}  # which the check below refuses
    for numbers in launches.values():
        fits = len(numbers) == 2 and all(type(n) is int for n in numbers)
        if not fits or not 1 <= numbers[0] <= _MOST_BLOCKS or not 1 <= numbers[1] <= _MOST_THREADS:
            raise BundleError("the list of a GPU's launches is malformed", AGAIN)
    return launches


@dataclass(frozen=True)
class CudaProgram:
    """Calls bound to their memory: what starts each of them on the GPU."""

    driver: CudaDriver
    starters: list[Callable[[], None]]

    def run(self) -> None:
        """All of them, in order. TargetError if one failed."""
        for start in self.starters:
            start()
        self.driver.synchronize()

    def run_one(self, index: int) -> None:
        """One of them."""
        self.starters[index]()
        self.driver.synchronize()


class CudaKernels:
    """The kernels of a fat binary, by name.

    TargetError without a GPU that can run them. BundleError if the files are malformed or a kernel
    is missing.
    """

    def __init__(self, binary: bytes, launches: bytes) -> None:
        """Load a fat binary. `launches` says how each kernel is started."""
        self.launches = _read_launches(launches)
        self.driver = CudaDriver()
        self.module = self.driver.load(binary)

    def allocate(self, size: int) -> Array:
        """Zeroed memory of host and GPU."""
        return self.driver.allocate(size)

    def place(self, array: Array) -> Array:
        """A copy in memory of host and GPU."""
        placed = self.driver.allocate(array.nbytes).view(array.dtype)
        np.copyto(placed, array)
        return placed

    def clear(self, array: Array) -> None:
        """Zero, in the order of calls."""
        self.driver.clear(array.ctypes.data, array.nbytes)

    def program(self, calls: Sequence[Call]) -> CudaProgram:
        """Calls of kernels, and copies, bound to flat arrays of `allocate`.

        A kernel takes its inputs, then its outputs.
        """
        return CudaProgram(self.driver, [self._starter(call) for call in calls])

    def _starter(self, call: Call) -> Callable[[], None]:
        """What starts a call."""
        arrays, name = call.arrays, call.kernel
        if name == COPY:
            source, target = arrays
            return partial(self.driver.copy, target, source)
        if name not in self.launches:
            raise BundleError(f"the bundle's code has no kernel {name}", AGAIN)
        function = self.driver.function(self.module, name)
        values = (c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        pointers = (c_void_p * len(arrays))(
            *(addressof(values) + 8 * k for k in range(len(arrays)))
        )
        blocks, threads = self.launches[name]
        # A launch takes pointers to the arguments, which are pointers themselves. They are the same
        # at each step. What holds them must live as long as the call, for an address keeps nothing.
        kept = (values, arrays)

        def start(_: Any = kept) -> None:
            self.driver.launch(function, blocks, threads, pointers)

        return start

    def set_threads(self, count: int) -> None:
        """A GPU has its own; the results do not depend on them."""
        require_whole("threads", count, 1, MAXIMUM_THREADS)
