# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: loads a bundle's library and calls its functions on numpy arrays. Needs tvm_ffi only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tvm_ffi

from gsqc.errors import BundleError, OptionError
from gsqc.runtime.executor import default_threads
from gsqc.runtime.host_memory import HostMemory

Array = npt.NDArray[Any]
_SPREAD = 1
"""TVM's affinity mode "big": one worker thread per core."""


def _load_runtime(library: Path) -> None:
    """Make TVM's runtime functions (threads, workspace) known to libraries that are loaded after it."""
    if tvm_ffi.get_global_func("runtime.config_threadpool", allow_missing=True) is None:
        os.environ.setdefault("TVM_BIND_THREADS", "0")
        # Without this the pool has half the cores: TVM takes the other half for hyper-threads.
        os.environ.setdefault("TVM_NUM_THREADS", str(default_threads()))
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise BundleError(f"cannot load {library.name}: {error}", "compile the model again") from None


class CompiledKernels(HostMemory):
    """The kernels of a shared library, by name.

    `runtime_library` is TVM's libtvm_runtime.so, `kernel_library` what `compile_kernels` made. BundleError if one of
    them cannot be loaded, or a kernel is missing.
    """

    def __init__(self, runtime_library: Path, kernel_library: Path) -> None:
        _load_runtime(runtime_library)
        try:
            self._module = tvm_ffi.load_module(str(kernel_library))
        except (OSError, RuntimeError) as error:
            raise BundleError(f"cannot load {kernel_library.name}: {error}", "compile the model again") from None
        self._tensors: dict[tuple[int, int, str], Any] = {}

    def _tensor(self, array: Array) -> Any:
        """The array as a DLPack tensor; made once for the same memory."""
        assert array.ndim == 1 and array.flags.c_contiguous
        key = (array.ctypes.data, array.size, array.dtype.str)
        if key not in self._tensors:
            self._tensors[key] = tvm_ffi.from_dlpack(array)
        return self._tensors[key]

    def _function(self, name: str) -> Any:
        try:
            return self._module.get_function(name)
        except AttributeError:
            raise BundleError(f"the bundle's code has no kernel {name}", "compile the model again") from None

    def prepare(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]:
        """The kernel bound to flat arrays (inputs, then outputs), ready to run."""
        function = self._function(name)
        tensors = [self._tensor(a) for a in arrays]

        def run() -> None:
            try:
                function(*tensors)
            except (TypeError, ValueError, RuntimeError) as error:  # compiled code checks its arguments
                raise BundleError(
                    f"the kernel {name} does not fit the plan ({error})", "compile the model again"
                ) from None

        return run

    def call(self, name: str, arrays: Sequence[Array]) -> None:
        """Run a kernel once on flat arrays: inputs, then outputs."""
        self._function(name)(*(tvm_ffi.from_dlpack(a) for a in arrays))

    def release(self) -> None:
        """Let go of the arrays that were bound; calls that are still held keep theirs."""
        self._tensors.clear()

    def set_threads(self, count: int) -> None:
        """Use this many threads from now on; the results do not depend on it."""
        if count < 1:
            raise OptionError(f"{count} threads", "use at least one")
        tvm_ffi.get_global_func("runtime.config_threadpool")(_SPREAD, count)
