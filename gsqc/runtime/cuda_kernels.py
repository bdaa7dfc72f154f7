# SPDX-License-Identifier: Apache-2.0
"""Kernels on an NVIDIA GPU. All tensors lie in memory that host and GPU share, so a session reads and writes them as
it does on a CPU; their pages move to the GPU when its kernels first touch them, and stay there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ctypes import addressof, c_void_p
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import BundleError
from gsqc.runtime.cuda_driver import CudaDriver

Array = npt.NDArray[Any]
AGAIN = "compile the model again"
_MOST_BLOCKS, _MOST_THREADS = 2**31 - 1, 1024


def _read_launches(file: Path) -> dict[str, tuple[int, int]]:
    """How many blocks and threads each kernel takes; BundleError unless all are numbers that a GPU can take."""
    try:
        launches = {str(name): tuple(numbers) for name, numbers in json.loads(file.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        launches = {"": ()}
    for numbers in launches.values():
        fits = len(numbers) == 2 and all(type(n) is int for n in numbers)
        if not fits or not 1 <= numbers[0] <= _MOST_BLOCKS or not 1 <= numbers[1] <= _MOST_THREADS:
            raise BundleError(f"{file.name} is malformed", AGAIN)
    return launches


class CudaKernels:
    """The kernels of a fat binary, by name, with the interface of `CompiledKernels`.

    TargetError without a GPU that can run them; BundleError if the files are malformed or a kernel is missing.
    """

    def __init__(self, binary: Path, launches: Path) -> None:
        self.launches = _read_launches(launches)
        self.driver = CudaDriver()
        self.module = self.driver.load(binary.read_bytes())

    def allocate(self, size: int) -> Array:
        return self.driver.allocate(size)

    def place(self, array: Array) -> Array:
        placed = self.driver.allocate(array.nbytes).view(array.dtype)
        np.copyto(placed, array)
        return placed

    def copy(self, source: Array, target: Array) -> Callable[[], None]:
        return partial(self.driver.copy, target.ctypes.data, source.ctypes.data, source.nbytes)

    def clear(self, array: Array) -> None:
        self.driver.clear(array.ctypes.data, array.nbytes)

    def prepare(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]:
        """The kernel bound to flat arrays of `allocate` (inputs, then outputs), ready to be started."""
        if name not in self.launches:
            raise BundleError(f"the bundle's code has no kernel {name}", AGAIN)
        function = self.driver.function(self.module, name)
        values = (c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        pointers = (c_void_p * len(arrays))(*(addressof(values) + 8 * k for k in range(len(arrays))))
        blocks, threads = self.launches[name]
        kept = (values, list(arrays))

        def run(_: Any = kept) -> None:
            self.driver.launch(function, blocks, threads, pointers)

        return run

    def release(self) -> None:
        """Nothing is kept between calls but what they hold themselves."""

    def set_threads(self, count: int) -> None:
        """A GPU has its own; the results do not depend on them."""

    def synchronize(self) -> None:
        self.driver.synchronize()
