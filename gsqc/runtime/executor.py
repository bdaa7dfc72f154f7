# SPDX-License-Identifier: Apache-2.0
"""Executor: lays a plan's tensors out in memory and runs the plan's schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from gsqc.bundle.plan import COPY, Plan, Reference, TensorPlan, align
from gsqc.targets.interface import Array, Call, Kernels, Program

RELEASE_BYTES = 1 << 20
"""Once kernels have read this many bytes of the base, its pages are released."""


@dataclass(frozen=True)
class Bound:
    """A part of a schedule: the kernels that it calls, and the program that calls them.

    `releases` says whether the pages of the base may leave memory after it. If `guard` is an array
    of one 0, the part is left out.
    """

    kernels: list[str]
    program: Program
    releases: bool
    guard: Array | None

    @property
    def is_left_out(self) -> bool:
        """Whether the part does not run now."""
        return self.guard is not None and not self.guard[0]


def _typed(region: Array, tensor: TensorPlan) -> Array:
    return region[tensor.offset : tensor.offset + tensor.size_bytes].view(tensor.dtype)


class Executor:
    """Runs the schedules of a plan with one target's kernels.

    `tensors` holds every buffer outside the arena by name, as flat arrays that callers read and
    write. `release` lets pages of the base leave memory, and is called after kernels that read
    much of it in place. `watch`, if set, is called after each call.
    """

    def __init__(
        self,
        plan: Plan,
        kernels: Kernels,
        base: Mapping[str, Array],
        release: Callable[[], None] | None = None,
    ) -> None:
        self.plan, self.kernels = plan, kernels
        frozen = {name: base[name].reshape(-1) for name in plan.buffers.get("base", {})}
        self.tensors: dict[str, Array] = {
            name: kernels.place(array) for name, array in frozen.items()
        }
        self.release = (
            release if all(self.tensors[name] is array for name, array in frozen.items()) else None
        )
        self.arena = kernels.allocate(plan.arena_bytes)
        own = {
            n: t
            for kind, buffers in plan.buffers.items()
            if kind != "base"
            for n, t in buffers.items()
        }
        # All buffers are one piece that comes from the system rather than from the heap. So pages
        # that a run never touches take no memory.
        memory = kernels.allocate(sum(align(t.size_bytes) for t in own.values()))
        place = 0
        for name, tensor in own.items():
            self.tensors[name] = memory[place : place + tensor.size_bytes].view(tensor.dtype)
            place += align(tensor.size_bytes)
        self.watch: Callable[[Call], None] | None = None
        self._bound: dict[str, list[Bound]] = {}
        self._last: dict[str, Program] = {}
        self._cache: dict[tuple[int, str, int], Array] = {}

    def _slice(self, array: Array, reference: Reference) -> Array:
        """The part of an array that a reference names. The same part is the same object."""
        key = (array.ctypes.data, str(array.dtype), reference.offset * 2**32 + reference.count)
        if key not in self._cache:
            self._cache[key] = array[reference.offset : reference.offset + reference.count]
        return self._cache[key]

    def activations(self, schedule_name: str) -> dict[str, Array]:
        """What lives between the calls of a schedule, by name. Other schedules write over it."""
        region = self.arena[self.plan.scratch_bytes(schedule_name) :]
        activations = self.plan.schedules[schedule_name].activations
        return {name: _typed(region, tensor) for name, tensor in activations.items()}

    def calls(self, schedule_name: str) -> Iterator[Call]:
        """The calls of a schedule on their memory, in order."""
        schedule = self.plan.schedules[schedule_name]
        known = {**self.tensors, **self.activations(schedule_name)}
        scratch = {
            name: {n: _typed(self.arena, t) for n, t in function.scratch.items()}
            for name, function in self.plan.functions.items()
        }
        base = self.plan.buffers.get("base", {})
        for number, (name, bindings) in enumerate(schedule.calls):
            watched = schedule.guards.get(number)
            guard = None if watched is None else self._slice(known[watched.name], watched)
            bound = {port: self._slice(known[r.name], r) for port, r in bindings.items()}
            if name == COPY:
                yield Call(COPY, COPY, [bound["source"], bound["target"]], 0, guard)
                continue
            local = {**scratch[name], **bound}
            frozen_ports = {port for port, r in bindings.items() if r.name in base}
            for kernel, references in self.plan.functions[name].calls:
                arrays = [self._slice(local[r.name], r) for r in references]
                frozen = sum(
                    a.nbytes
                    for a, r in zip(arrays, references, strict=True)
                    if r.name in frozen_ports
                )
                yield Call(kernel, name, arrays, frozen, guard)

    def _bind(self, schedule: str) -> list[Bound]:
        parts: list[Bound] = []
        calls: list[Call] = []
        frozen = 0

        def end(*, releases: bool) -> None:
            program, guard = self.kernels.program(calls), calls[0].guard if calls else None
            parts.append(Bound([c.kernel for c in calls], program, releases, guard))
            calls.clear()

        for call in self.calls(schedule):
            if calls and call.guard is not calls[0].guard:
                end(releases=False)
            calls.append(call)
            frozen += call.frozen_bytes
            if self.release is not None and frozen >= RELEASE_BYTES:
                end(releases=True)
                frozen = 0
        end(releases=False)
        return parts

    def bound(self, schedule: str) -> list[Bound]:
        """The calls of a schedule on their memory, in parts. Pages of the base may leave memory
        between two parts.
        """
        if schedule not in self._bound:
            self._bound[schedule] = self._bind(schedule)
        return self._bound[schedule]

    def run(self, schedule: str) -> None:
        """Run a schedule from its first call to its last."""
        if self.watch is not None:
            self._run_watched(schedule, self.watch)
            return
        for part in self.bound(schedule):
            if part.is_left_out:
                continue
            part.program.run()
            if part.releases and self.release is not None:
                self.release()

    def run_last(self, schedule: str) -> None:
        """Run the last function of a schedule alone, on what the activations hold."""
        if schedule not in self._last:
            name, _ = self.plan.schedules[schedule].calls[-1]
            calls = [call for call in self.calls(schedule) if call.function == name]
            self._last[schedule] = self.kernels.program(calls)
        self._last[schedule].run()

    def _run_watched(self, schedule: str, watch: Callable[[Call], None]) -> None:
        calls = self.calls(schedule)
        for part in self.bound(schedule):
            # Calls of this part may still decide about the next, so each is asked when its turn is.
            left_out = part.is_left_out
            for k, call in enumerate(islice(calls, len(part.kernels))):
                if not left_out:
                    part.program.run_one(k)
                    watch(call)

    def finish(self, schedule: str) -> None:
        """Run a schedule for the last time, and free what no other schedule reads."""
        self.run(schedule)
        del self._bound[schedule]
        self._cache.clear()
        others = [s for name, s in self.plan.schedules.items() if name != schedule]
        used = {r.name for s in others for _, bindings in s.calls for r in bindings.values()}
        for name in self.plan.buffers.get("base", {}):
            if name not in used:
                del self.tensors[name]

    def clear_gradients(self) -> None:
        """Set the gradient sums of the batch to zero."""
        for name in self.plan.buffers.get("gradient", {}):
            self.kernels.clear(self.tensors[name])
