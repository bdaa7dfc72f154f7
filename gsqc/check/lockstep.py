# SPDX-License-Identifier: Apache-2.0
"""Runs two sessions of one plan call by call, up to the first kernel whose results differ."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.plan import COPY, Plan
from gsqc.numerics.formats import flatten
from gsqc.numerics.ops.registry import OPS, trace
from gsqc.runtime.session import Session
from gsqc.targets.interface import Call
from gsqc.targets.programs import port_directions

Array = npt.NDArray[Any]
Difference = dict[str, Any]


class _Found(Exception):
    """A call gave different results."""


def first_different_element(arrays: dict[str, Array]) -> Difference | None:
    """The index and the values at which two arrays of equal size first differ, or None."""
    (a, first), (b, second) = arrays.items()
    different = np.flatnonzero(first != second)
    if not different.size:
        return None
    index = int(different[0])
    return {"index": index, "values": {a: int(first[index]), b: int(second[index])}}


def _tensor_of(plan: Plan, call: Call, position: int) -> Difference:
    """What a call's argument is to its op: input or result, with its type and shape."""
    if call.kernel == COPY:
        return {"op": "copy", "tensor": "result", "shape": [call.arrays[position].size]}
    if call.kernel == call.function:
        return _port_of(plan, call.function, position)
    kernel = plan.kernels[call.kernel]
    values, attributes = kernel.call()
    _, results = trace(OPS[kernel.op], values, attributes)
    inputs, outputs = flatten(tuple(values)), flatten(results)
    spec = [*inputs, *outputs][position]
    is_input = position < len(inputs)
    name = f"input {position}" if is_input else f"result {position - len(inputs)}"
    return {"op": kernel.op, "tensor": name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _port_of(plan: Plan, name: str, position: int) -> Difference:
    """A tensor of a function that runs as one program."""
    read, written = port_directions(plan, name)
    port = (read + written)[position]
    tensor = plan.functions[name].ports[port]
    side = "input" if position < len(read) else "result"
    return {
        "op": "program",
        "tensor": f"{side} {port}",
        "dtype": tensor.dtype,
        "shape": [tensor.count],
    }


def differing_result(plan: Plan, number: int, calls: dict[str, Call]) -> Difference | None:
    """The first difference between two targets in the same call, or None.

    `number` is the call's number, which the difference names.
    """
    first = next(iter(calls.values()))
    for position in range(len(first.arrays)):
        found = first_different_element(
            {name: call.arrays[position] for name, call in calls.items()}
        )
        if found is not None:
            where = _tensor_of(plan, first, position)
            index = [int(k) for k in np.unravel_index(found["index"], where["shape"])]
            names = {"call": number, "function": first.function, "kernel": first.kernel}
            return {**names, **where, "index": index, "values": found["values"]}
    return None


def _prepared_difference(sessions: dict[str, Session]) -> Difference | None:
    plan = next(iter(sessions.values())).plan
    for name in plan.buffers.get("prepared", {}):
        found = first_different_element(
            {target: s.executor.tensors[name] for target, s in sessions.items()}
        )
        if found is not None:
            return {"function": "prepare", "tensor": name, **found}
    return None


class _Lockstep:
    """Lets each session make a call, and compares the results before the next one."""

    def __init__(self, sessions: dict[str, Session]) -> None:
        self.plan = next(iter(sessions.values())).plan
        self.calls: dict[str, Call] = {}
        self.counts = dict.fromkeys(sessions, 0)
        self.difference: Difference | None = None
        self.barrier = threading.Barrier(len(sessions), action=self._compare)

    def _compare(self) -> None:
        """Compare the calls that all sessions have just made."""
        self.difference = differing_result(self.plan, max(self.counts.values()), self.calls)
        if self.difference is not None:
            raise _Found

    def _watch(self, target: str, call: Call) -> None:
        self.calls[target] = call
        self.counts[target] += 1
        self.barrier.wait()

    def run(self, target: str, session: Session, step: Callable[[Session], object]) -> None:
        """Run `step` on a session in this thread, up to the first difference."""
        session.executor.watch = partial(self._watch, target)
        try:
            step(session)
        except (_Found, threading.BrokenBarrierError):
            pass
        except BaseException:
            self.barrier.abort()
            raise
        finally:
            session.executor.watch = None


def first_different_call(
    sessions: dict[str, Session], step: Callable[[Session], object]
) -> Difference | None:
    """Run `step` on two sessions with equal state, up to the first call that differs.

    Each session makes one call at a time. Gives the operator, its kernel and function, and the
    tensor, index and values, or None if no call differs. The state of the sessions is of no use
    afterwards.
    """
    found = _prepared_difference(sessions)
    if found is not None:
        return found
    lockstep = _Lockstep(sessions)
    with ThreadPoolExecutor(len(sessions)) as pool:
        for future in [pool.submit(lockstep.run, *item, step) for item in sessions.items()]:
            future.result()
    return lockstep.difference
