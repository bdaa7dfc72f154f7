# SPDX-License-Identifier: Apache-2.0
"""What a target is to the rest of gsqc: kernels that an executor binds to memory and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import COPY

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel, or COPY, of a function on arrays (inputs, then outputs); `frozen_bytes` of them
    belong to the base.
    """

    kernel: str
    function: str
    arrays: list[Array]
    frozen_bytes: int = 0


class Program(Protocol):
    """Calls bound to their memory. They have ended when a method returns."""

    def run(self) -> None:
        """All of them, in order."""

    def run_one(self, index: int) -> None:
        """One of them."""


class Kernels(Protocol):
    """What an executor needs of a target. HostMemory (host_memory.py) has the first three for
    kernels on the host.
    """

    def allocate(self, size: int) -> Array:
        """Zeroed bytes at a multiple of ALIGNMENT, for kernels and for the host."""

    def place(self, array: Array) -> Array:
        """A frozen array where kernels can read it: itself, or a copy."""

    def clear(self, array: Array) -> None:
        """Zero, before the calls that come later."""

    def program(self, calls: Sequence[Call]) -> Program:
        """Calls of kernels, and copies, bound to their arrays."""

    def set_threads(self, count: int) -> None:
        """Use this many threads from now on; the results do not depend on it."""


@dataclass(frozen=True)
class Functions:
    """A program of Python functions, one a call."""

    functions: list[Callable[[], None]]

    def run(self) -> None:
        for function in self.functions:
            function()

    def run_one(self, index: int) -> None:
        self.functions[index]()


def bind_each(
    calls: Sequence[Call], bind: Callable[[str, list[Array]], Callable[[], None]]
) -> Functions:
    """A program of calls that `bind` makes of a kernel's name and its arrays; copies are numpy's."""
    return Functions(
        [_copy(*c.arrays) if c.kernel == COPY else bind(c.kernel, c.arrays) for c in calls]
    )


def _copy(source: Array, target: Array) -> Callable[[], None]:
    return partial(np.copyto, target, source)
