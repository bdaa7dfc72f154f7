# SPDX-License-Identifier: Apache-2.0
"""Memory and order: an `Executor` lays a plan's tensors out in memory and runs its schedules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from gsqc.plan import COPY, Plan, Reference, TensorPlan

Array = npt.NDArray[Any]
Step = tuple[str, Callable[[], None]]
RELEASE = "@release"
"""A call that lets go of the base; no kernel."""
RELEASE_BYTES = 1 << 20
"""When kernels have read this much of the base its pages are released: others are read next."""


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel, or COPY, of a function on arrays (inputs, then outputs); `frozen_bytes` of them belong to the base."""

    kernel: str
    function: str
    arrays: list[Array]
    frozen_bytes: int = 0


class Kernels(Protocol):
    """What an executor needs of a target. HostMemory (host_memory.py) has the first five for kernels on the host."""

    def allocate(self, size: int) -> Array:
        """Zeroed bytes at a multiple of ALIGNMENT, for kernels and for the host."""

    def place(self, array: Array) -> Array:
        """A frozen array where kernels can read it."""

    def copy(self, source: Array, target: Array) -> Callable[[], None]:
        """What copies, in the order of calls."""

    def clear(self, array: Array) -> None:
        """Zero, in the order of calls."""

    def synchronize(self) -> None:
        """Wait until all calls have ended: before the host reads what they wrote."""

    def prepare(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]: ...

    def set_threads(self, count: int) -> None: ...

    def release(self) -> None: ...


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _typed(region: Array, tensor: TensorPlan) -> Array:
    return region[tensor.offset : tensor.offset + tensor.size_bytes].view(tensor.dtype)


class Executor:
    """Runs the schedules of a plan with one target's kernels.

    `tensors` holds every buffer outside the arena by name: flat arrays that callers read and write. `release` is called
    after kernels that read much of the base: what was read may leave memory. `watch`, if set, is called
    after each call.
    """

    def __init__(
        self, plan: Plan, kernels: Kernels, base: Mapping[str, Array], release: Callable[[], None] | None = None
    ) -> None:
        self.plan, self.kernels, self.release = plan, kernels, release
        self.arena = kernels.allocate(plan.arena_bytes)
        self.tensors: dict[str, Array] = {}
        for kind, buffers in plan.buffers.items():
            for name, tensor in buffers.items():
                if kind == "base":
                    self.tensors[name] = kernels.place(base[name].reshape(-1))
                else:
                    self.tensors[name] = kernels.allocate(tensor.size_bytes).view(tensor.dtype)
        self.watch: Callable[[Call], None] | None = None
        self._bound: dict[str, list[Step]] = {}
        self._cache: dict[tuple[int, str, int], Array] = {}

    def _slice(self, array: Array, reference: Reference) -> Array:
        """The part of an array that a reference names; the same object for the same memory."""
        key = (array.ctypes.data, str(array.dtype), reference.offset * 2**32 + reference.count)
        if key not in self._cache:
            self._cache[key] = array[reference.offset : reference.offset + reference.count]
        return self._cache[key]

    def calls(self, schedule_name: str) -> Iterator[Call]:
        """The calls of a schedule on their memory, in order."""
        schedule = self.plan.schedules[schedule_name]
        activations = self.arena[self.plan.scratch_bytes(schedule_name) :]
        known = {**self.tensors, **{n: _typed(activations, t) for n, t in schedule.activations.items()}}
        scratch = {
            name: {n: _typed(self.arena, t) for n, t in function.scratch.items()}
            for name, function in self.plan.functions.items()
        }
        base = self.plan.buffers.get("base", {})
        for name, bindings in schedule.calls:
            bound = {port: self._slice(known[r.name], r) for port, r in bindings.items()}
            if name == COPY:
                yield Call(COPY, COPY, [bound["source"], bound["target"]])
                continue
            local = {**scratch[name], **bound}
            frozen_ports = {port for port, r in bindings.items() if r.name in base}
            for kernel, references in self.plan.functions[name].calls:
                arrays = [self._slice(local[r.name], r) for r in references]
                frozen = sum(a.nbytes for a, r in zip(arrays, references, strict=True) if r.name in frozen_ports)
                yield Call(kernel, name, arrays, frozen)

    def _bind(self, schedule: str) -> list[Step]:
        steps: list[Step] = []
        frozen = 0
        for call in self.calls(schedule):
            if call.kernel == COPY:
                source, target = call.arrays
                steps.append((COPY, self.kernels.copy(source, target)))
                continue
            steps.append((call.kernel, self.kernels.prepare(call.kernel, call.arrays)))
            frozen += call.frozen_bytes
            if self.release is not None and frozen >= RELEASE_BYTES:
                steps.append((RELEASE, self.release))
                frozen = 0
        return steps

    def bound(self, schedule: str) -> list[Step]:
        """The calls of a schedule, each bound to its memory, with the names of their kernels."""
        if schedule not in self._bound:
            self._bound[schedule] = self._bind(schedule)
        return self._bound[schedule]

    def run(self, schedule: str) -> None:
        """Run a schedule from its first call to its last."""
        if self.watch is not None:
            self._run_watched(schedule, self.watch)
            return
        for _, call in self.bound(schedule):
            call()
        self.kernels.synchronize()

    def _run_watched(self, schedule: str, watch: Callable[[Call], None]) -> None:
        steps = (run for name, run in self.bound(schedule) if name != RELEASE)
        for run, call in zip(steps, self.calls(schedule), strict=True):
            run()
            self.kernels.synchronize()
            watch(call)

    def finish(self, schedule: str) -> None:
        """Run a schedule for the last time, and free what no other one reads."""
        self.run(schedule)
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
            self.kernels.clear(self.tensors[name])
