# SPDX-License-Identifier: Apache-2.0
"""The CUDA driver by ctypes: the machine's libcuda.so.1 and nothing of the CUDA toolkit."""

from __future__ import annotations

import ctypes
import threading
import weakref
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import TargetError

Array = npt.NDArray[Any]
LIBRARY = "libcuda.so.1"
LEAST_CAPABILITY = (8, 0)
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*."""
_ATTACH_GLOBAL = 1
_OPTIONS = (
    "use numpy or a CPU target, or run on a machine with an NVIDIA GPU of compute capability 8.0 "
    "or newer"
)


class _ManagedMemory:
    """Zeroed memory that host and GPU share, for numpy to wrap. Freed with the last array on it."""

    def __init__(self, driver: CudaDriver, size: int) -> None:
        address = c_void_p()
        driver.call(
            "cuMemAllocManaged", byref(address), c_size_t(max(size, 1)), c_int(_ATTACH_GLOBAL)
        )
        driver.call("cuMemsetD8_v2", address, ctypes.c_ubyte(0), c_size_t(max(size, 1)))
        driver.synchronize()
        # numpy takes any object with this attribute as memory, and keeps the object alive.
        self.__array_interface__ = {
            "data": (address.value, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }
        weakref.finalize(self, driver.library.cuMemFree_v2, address)


class CudaDriver:
    """The first GPU of CUDA_VISIBLE_DEVICES."""

    def __init__(self) -> None:
        """Open the driver and the GPU. TargetError if there is no driver, no GPU, or an old one."""
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise TargetError(f"this machine has no NVIDIA driver ({LIBRARY})", _OPTIONS) from None
        self.call("cuInit", c_int(0))
        count, self.device = c_int(), c_int()
        self.call("cuDeviceGetCount", byref(count))
        if count.value == 0:
            raise TargetError("this machine has no NVIDIA GPU", _OPTIONS)
        self.call("cuDeviceGet", byref(self.device), c_int(0))
        capability = (self._attribute(_CAPABILITY_MAJOR), self._attribute(_CAPABILITY_MINOR))
        if capability < LEAST_CAPABILITY:
            raise TargetError(
                f"this GPU has compute capability {capability[0]}.{capability[1]}", _OPTIONS
            )
        self.context = c_void_p()
        # The primary context is the one that other CUDA libraries of the process use, too.
        self.call("cuDevicePrimaryCtxRetain", byref(self.context), self.device)
        self._thread = -1
        self.use()

    def call(self, name: str, *args: Any) -> None:
        """A function of the driver; TargetError with the driver's own words if it fails."""
        code = getattr(self.library, name)(*args)
        if code:
            text = c_char_p()
            self.library.cuGetErrorString(c_int(code), byref(text))
            words = (text.value or b"unknown error").decode(errors="replace")
            raise TargetError(
                f"CUDA: {name} failed: {words} ({code})", "nvidia-smi shows the state of the GPU"
            )

    def _attribute(self, attribute: int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), c_int(attribute), self.device)
        return value.value

    def use(self) -> None:
        """Make the GPU's context the calling thread's."""
        # A context is current for one thread, and a session may be used from another.
        if self._thread != threading.get_ident():
            self.call("cuCtxSetCurrent", self.context)
            self._thread = threading.get_ident()

    def allocate(self, size: int) -> Array:
        """Zeroed memory of host and GPU.

        The GPU's calls must have ended before the host reads it.
        """
        self.use()
        return np.asarray(_ManagedMemory(self, size))

    def load(self, binary: bytes) -> c_void_p:
        """A module of a fat binary or cubin."""
        self.use()
        module = c_void_p()
        self.call("cuModuleLoadData", byref(module), c_char_p(binary))
        return module

    def function(self, module: c_void_p, name: str) -> c_void_p:
        """A kernel of a module."""
        found = c_void_p()
        self.call("cuModuleGetFunction", byref(found), module, c_char_p(name.encode()))
        return found

    def launch(self, function: c_void_p, blocks: int, threads: int, arguments: Any) -> None:
        """Start a kernel; it runs after what was started before it."""
        self.use()
        # One dimension of blocks and of threads, no dynamic shared memory, and the default stream,
        # in which launches run in order.
        none = c_void_p()
        grid, block = (c_int(blocks), c_int(1), c_int(1)), (c_int(threads), c_int(1), c_int(1))
        self.call("cuLaunchKernel", function, *grid, *block, c_int(0), none, arguments, none)

    def copy(self, target: Array, source: Array) -> None:
        """Copy within the memory of `allocate`, in the order of launches."""
        assert target.nbytes == source.nbytes
        self.use()
        target_address, source_address = c_void_p(target.ctypes.data), c_void_p(source.ctypes.data)
        self.call(
            "cuMemcpyDtoDAsync_v2",
            target_address,
            source_address,
            c_size_t(source.nbytes),
            c_void_p(),
        )

    def clear(self, address: int, size: int) -> None:
        """Zero memory, in the order of launches."""
        self.use()
        self.call(
            "cuMemsetD8Async", c_void_p(address), ctypes.c_ubyte(0), c_size_t(size), c_void_p()
        )

    def synchronize(self) -> None:
        """Wait for everything that was started. TargetError if a kernel failed."""
        self.use()
        self.call("cuCtxSynchronize")
