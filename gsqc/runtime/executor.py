# SPDX-License-Identifier: Apache-2.0
"""Memory and order: an `Executor` lays a plan's tensors out in memory and runs its schedules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gsqc.plan import ALIGNMENT, COPY, Plan, Reference, TensorPlan, align

Array = npt.NDArray[Any]
CALLS_BETWEEN_RELEASES = 32
"""A release costs some microseconds, and the pages of 32 calls are a few megabytes."""


class Kernels(Protocol):
    """What an executor needs of a target."""

    def prepare(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]: ...

    def set_threads(self, count: int) -> None: ...

    def release(self) -> None: ...


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def aligned_bytes(size: int) -> Array:
    """Zeroed memory that begins at a multiple of ALIGNMENT."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _typed(region: Array, tensor: TensorPlan) -> Array:
    return region[tensor.offset : tensor.offset + tensor.size_bytes].view(tensor.dtype)


class Executor:
    """Runs the schedules of a plan with one target's kernels.

    `tensors` holds every buffer outside the arena by name: flat arrays that callers read and write.
    """

    def __init__(self, plan: Plan, kernels: Kernels, base: Mapping[str, Array]) -> None:
        self.plan, self.kernels = plan, kernels
        self.arena = aligned_bytes(plan.arena_bytes)
        self.tensors: dict[str, Array] = {}
        for kind, buffers in plan.buffers.items():
            for name, tensor in buffers.items():
                if kind == "base":
                    self.tensors[name] = base[name].reshape(-1)
                else:
                    self.tensors[name] = aligned_bytes(tensor.size_bytes).view(tensor.dtype)
        self._bound: dict[str, list[Callable[[], None]]] = {}
        self._cache: dict[tuple[int, str, int], Array] = {}

    def _slice(self, array: Array, reference: Reference) -> Array:
        """The part of an array that a reference names; the same object for the same memory."""
        key = (array.ctypes.data, str(array.dtype), reference.offset * 2**32 + reference.count)
        if key not in self._cache:
            self._cache[key] = array[reference.offset : reference.offset + reference.count]
        return self._cache[key]

    def _bind(self, schedule_name: str) -> list[Callable[[], None]]:
        schedule = self.plan.schedules[schedule_name]
        activations = self.arena[align(self.plan.scratch_bytes) :]
        known = {**self.tensors, **{n: _typed(activations, t) for n, t in schedule.activations.items()}}
        scratch = {
            name: {n: _typed(self.arena, t) for n, t in function.scratch.items()}
            for name, function in self.plan.functions.items()
        }
        steps: list[Callable[[], None]] = []
        for name, bindings in schedule.calls:
            bound = {port: self._slice(known[r.name], r) for port, r in bindings.items()}
            if name == COPY:
                steps.append(lambda s=bound["source"], t=bound["target"]: np.copyto(t, s))  # type: ignore[misc]
                continue
            local = {**scratch[name], **bound}
            for kernel, references in self.plan.functions[name].calls:
                arrays = [self._slice(local[r.name], r) for r in references]
                steps.append(self.kernels.prepare(kernel, arrays))
        return steps

    def bound(self, schedule: str) -> list[Callable[[], None]]:
        """The calls of a schedule, each bound to its memory."""
        if schedule not in self._bound:
            self._bound[schedule] = self._bind(schedule)
        return self._bound[schedule]

    def run(self, schedule: str) -> None:
        """Run a schedule from its first call to its last."""
        for call in self.bound(schedule):
            call()

    def finish(self, schedule: str, release: Callable[[], None] = lambda: None) -> None:
        """Run a schedule for the last time, and free what no other one reads.

        `release` is called now and then: what was read so far is not needed soon.
        """
        for number, call in enumerate(self.bound(schedule)):
            call()
            if number % CALLS_BETWEEN_RELEASES == 0:
                release()
        release()
        del self._bound[schedule]
        self._cache.clear()
        self.kernels.release()
        others = [s for name, s in self.plan.schedules.items() if name != schedule]
        used = {r.name for s in others for _, bindings in s.calls for r in bindings.values()}
        for name in self.plan.buffers.get("base", {}):
            if name not in used:
                del self.tensors[name]

    def clear_gradients(self) -> None:
        """Zero the sums of the batch."""
        for name in self.plan.buffers.get("gradient", {}):
            self.tensors[name].fill(0)
