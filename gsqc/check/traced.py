# SPDX-License-Identifier: Apache-2.0
"""Compares a session with gsqc-step's trace of a step, up to the first kernel that differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gsqc.bundle.plan import COPY, Plan
from gsqc.check.lockstep import Difference, differing_result
from gsqc.errors import TargetError
from gsqc.files.reading import read_file
from gsqc.runtime.session import Session
from gsqc.targets.interface import Call

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StepRecord:
    """The sha256 of each prepared tensor by name, and of each call's results.

    A call is (kernel or COPY, hashes). The calls are in order.
    """

    prepared: dict[str, str]
    calls: list[tuple[str, list[str]]]

    @staticmethod
    def read(file: Path) -> StepRecord:
        """Read a file that gsqc-step --trace wrote."""
        lines = [line.split(" ") for line in read_file(file).decode().splitlines()]
        prepared = {words[1]: words[2] for words in lines if words[0] == "prepared"}
        return StepRecord(
            prepared, [(words[0], words[1:]) for words in lines if words[0] != "prepared"]
        )


class Traced(Protocol):
    """A target that steps elsewhere and can record a step's calls."""

    def trace(self, step: int) -> StepRecord:
        """The calls of a step."""

    def call_values(self, step: int, call: int) -> bytes:
        """The results of a call of a step, one after the other. Calls count from 1."""


class _Found(Exception):
    """A call differs. It holds the call's number from 1, and the call as the session made it."""

    def __init__(self, number: int, call: Call) -> None:
        super().__init__(number)
        self.number, self.call = number, call


def results_of(plan: Plan, call: Call) -> list[Array]:
    """The arrays that a call writes."""
    if call.kernel == COPY:
        return call.arrays[1:]
    return call.arrays[sum(len(tensors) for _, _, tensors in plan.kernels[call.kernel].inputs) :]


def _hash(array: Array) -> str:
    return hashlib.sha256(array.data).hexdigest()


def first_different_traced_call(
    own: str,
    session: Session,
    other: str,
    traced: Traced,
    step: int,
    again: Callable[[Session], object],
) -> Difference | None:
    """Run `again`, which takes the step on the session, up to the first call that differs.

    `own` and `other` name the two targets. The state of the session is of no use afterwards.
    """
    trace = traced.trace(step)
    for name, expected in trace.prepared.items():
        if _hash(session.executor.tensors[name]) != expected:
            return {"function": "prepare", "tensor": name, "index": [], "values": {}}
    number = 0

    def watch(call: Call) -> None:
        nonlocal number
        number += 1
        found = (call.kernel, [_hash(a) for a in results_of(session.plan, call)])
        if number > len(trace.calls) or trace.calls[number - 1] != found:
            raise _Found(number, call)

    session.executor.watch = watch
    try:
        again(session)
    except _Found as found:
        return _located(own, session, other, traced.call_values(step, found.number), found)
    finally:
        session.executor.watch = None
    return None


def _located(own: str, session: Session, other: str, values: bytes, found: _Found) -> Difference:
    """The element that differs. TargetError if gsqc-step called something else."""
    results = results_of(session.plan, found.call)
    if len(values) != sum(r.nbytes for r in results):
        raise TargetError(
            f"gsqc-step's call {found.number} is not {found.call.kernel}", "compile the model again"
        )
    theirs, position = [], 0
    for result in results:
        theirs.append(np.frombuffer(values, result.dtype, result.size, position))
        position += result.nbytes
    before = found.call.arrays[: len(found.call.arrays) - len(results)]
    other_call = Call(found.call.kernel, found.call.function, [*before, *theirs])
    difference = differing_result(session.plan, found.number, {own: found.call, other: other_call})
    assert difference is not None, "the hashes differ, so an element must differ"
    return difference
