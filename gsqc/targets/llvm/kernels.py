# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: loads a bundle's library and runs its functions on numpy arrays, by ctypes.

The library brings its threads and a loop over calls (gsqc/runner/library). A step makes thousands
of calls, to each of which ctypes would add microseconds. A whole schedule costs Python one call.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import COPY
from gsqc.errors import BundleError, OptionError
from gsqc.limits import MAXIMUM_THREADS
from gsqc.targets.host_memory import HostMemory
from gsqc.targets.interface import Call
from gsqc.values import require_whole

Array = npt.NDArray[Any]
_AGAIN = "compile the model again"
_LOAD_HINT = "if memory is short, close other programs; else compile the model again"

# DLPack's DLTensor, TVMFFIAny, and gsqc_call of gsqc/runner/library; all hold their pointers as
# integers.
_TENSOR = np.dtype(
    {
        "names": [
            "data",
            "device",
            "dimensions",
            "code",
            "bits",
            "lanes",
            "shape",
            "strides",
            "offset",
        ],
        "formats": ["u8", "i8", "i4", "u1", "u1", "u2", "u8", "u8", "u8"],
    },
    align=True,
)
_CPU, _SIGNED_INTEGER = 1, 0
_ARGUMENT = np.dtype([("type", "i4"), ("padding", "u4"), ("pointer", "u8")])
_TENSOR_POINTER = 7
_CALL = np.dtype([("code", "u8"), ("arguments", "u8"), ("count", "i8")])


class CompiledProgram:
    """Calls bound to their arrays, as the library's loop takes them. Keeps the arrays alive."""

    def __init__(self, library: ctypes.CDLL, calls: Sequence[Call]) -> None:
        """Bind calls. What a kernel takes is written once, as tables of numbers and addresses."""
        self._library = library
        self._names = [call.kernel for call in calls]
        self._arrays = list({id(a): a for call in calls for a in call.arrays}.values())
        # A tensor is described once, however many calls take it.
        place = {id(a): k for k, a in enumerate(self._arrays)}
        self._shapes = np.array([a.size for a in self._arrays], np.int64)
        self._stride = np.ones(1, np.int64)
        self._tensors = self._describe()
        positions = np.array([place[id(a)] for call in calls for a in call.arrays], np.int64)
        self._arguments = np.zeros(len(positions), _ARGUMENT)
        self._arguments["type"] = _TENSOR_POINTER
        self._arguments["pointer"] = self._tensors.ctypes.data + positions * _TENSOR.itemsize
        self._calls = self._list(calls)

    def _describe(self) -> npt.NDArray[Any]:
        assert all(a.ndim == 1 and a.flags.c_contiguous for a in self._arrays)
        tensors = np.zeros(len(self._arrays), _TENSOR)
        tensors["data"] = [a.ctypes.data for a in self._arrays]
        tensors["device"], tensors["dimensions"], tensors["lanes"] = _CPU, 1, 1
        tensors["code"], tensors["bits"] = _SIGNED_INTEGER, [8 * a.itemsize for a in self._arrays]
        tensors["shape"] = (
            self._shapes.ctypes.data + np.arange(len(tensors)) * self._shapes.itemsize
        )
        tensors["strides"] = self._stride.ctypes.data
        return tensors

    def _list(self, calls: Sequence[Call]) -> npt.NDArray[Any]:
        listed = np.zeros(len(calls), _CALL)
        first = 0
        for k, call in enumerate(calls):
            arguments = self._arguments[first : first + len(call.arrays)]
            first += len(call.arrays)
            if call.kernel == COPY:
                source, target = call.arrays
                assert source.nbytes == target.nbytes
                arguments["pointer"] = source.ctypes.data, target.ctypes.data
                # Code 0 is a copy, which takes the addresses of the data and a number of bytes.
                listed[k] = 0, arguments.ctypes.data, source.nbytes
            else:
                listed[k] = (
                    _address(self._library, call.kernel),
                    arguments.ctypes.data,
                    len(call.arrays),
                )
        return listed

    def _run(self, first: int, count: int) -> None:
        done = self._library.gsqc_run(self._calls.ctypes.data + first * _CALL.itemsize, count)
        # The loop stops at the first kernel that returns an error.
        if done < count:  # compiled code checks its arguments
            reason = self._library.gsqc_error().decode(errors="replace")
            raise BundleError(
                f"the kernel {self._names[first + done]} does not fit the plan ({reason})", _AGAIN
            )

    def run(self) -> None:
        """All calls, in order. BundleError if a kernel refuses its arrays."""
        self._run(0, len(self._names))

    def run_one(self, index: int) -> None:
        """One of them."""
        self._run(index, 1)


def _address(library: ctypes.CDLL, kernel: str) -> int:
    try:
        function = library[f"__tvm_ffi_{kernel}"]
    except AttributeError:
        raise BundleError(f"the bundle's code has no kernel {kernel}", _AGAIN) from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_copies: dict[str, int] = {}
"""The descriptor of each library's copy by the library's sha256."""


def _private_copy(content: bytes) -> str:
    """The path of a copy in memory, which nobody can change while its code runs.

    Equal libraries share a copy, and so their threads. It stays open until the process ends: the
    loader knows libraries by their paths, so no other copy may get the same one.
    """
    name = hashlib.sha256(content).hexdigest()
    if name not in _copies:
        copy = os.memfd_create("gsqc-kernels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(copy, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
        _copies[name] = copy
    return f"/proc/self/fd/{_copies[name]}"


class CompiledKernels(HostMemory):
    """The kernels of a shared library, on one thread until more are asked for.

    BundleError if it cannot be loaded.
    """

    def __init__(self, content: bytes) -> None:
        """Load the content of a shared library."""
        try:
            self._library = ctypes.CDLL(_private_copy(content), mode=os.RTLD_NOW | os.RTLD_LOCAL)
            self._library.gsqc_run.argtypes = [ctypes.c_void_p, ctypes.c_int64]
            self._library.gsqc_run.restype = ctypes.c_int64
            self._library.gsqc_error.restype = ctypes.c_char_p
            self._library.gsqc_use_threads.argtypes = [ctypes.c_int]
        except (OSError, AttributeError) as error:
            raise BundleError(f"cannot load the bundle's kernels: {error}", _LOAD_HINT) from None

    def require(self, names: Iterable[str]) -> None:
        """BundleError unless the library has all these kernels."""
        for name in names:
            _address(self._library, name)

    def program(self, calls: Sequence[Call]) -> CompiledProgram:
        """Calls of kernels, and copies, bound to their flat arrays (a kernel's inputs, then its
        outputs).
        """
        return CompiledProgram(self._library, calls)

    def set_threads(self, count: int) -> None:
        """Use this many threads from now on; the results do not depend on it. OptionError if they
        cannot be started.
        """
        require_whole("threads", count, 1, MAXIMUM_THREADS)  # ctypes would cut off higher bits
        if reason := self._library.gsqc_use_threads(count):
            raise OptionError(
                f"cannot start {count} threads: {os.strerror(reason)}", "use fewer --threads"
            )
