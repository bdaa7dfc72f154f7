# SPDX-License-Identifier: Apache-2.0
"""Finds the first tensor that differs between two targets, and the operator that caused it."""

from __future__ import annotations

from typing import cast

import numpy as np

from gsqc.check.lockstep import Difference, first_different_call, first_different_element
from gsqc.check.steppers import SessionStepper, Stepper
from gsqc.check.traced import Traced, first_different_traced_call
from gsqc.runtime.session import Session
from gsqc.targets.numpy.target import BY_FUNCTION
from gsqc.targets.registry import NATIVE, find_target


def first_difference(step: int, steppers: dict[str, Stepper]) -> Difference:
    """The first tensor of the state that differs after a step, and the first operator."""
    names = list(steppers)
    states = {name: stepper.state(step) for name, stepper in steppers.items()}
    for other in names[1:]:
        for tensor in states[names[0]]:
            found = first_different_element(
                {name: states[name][tensor] for name in (names[0], other)}
            )
            if found is None:
                continue
            pair = {name: steppers[name] for name in (names[0], other)}
            operator = _first_operator(step, pair)
            return {"step": step, "tensor": tensor, **found, "operator": operator}
    raise AssertionError("the digests differ, so a tensor must differ")


def _first_operator(step: int, pair: dict[str, Stepper]) -> Difference | None:
    """Run the step again, call by call, up to the first operator that differs.

    A target that runs whole programs is compared with numpy program by program. None if neither
    target runs in this process, or if one runs programs and the other is gsqc-step.
    """
    own = {name: stepper for name, stepper in pair.items() if isinstance(stepper, SessionStepper)}
    by_program = any(_is_by_function(name) for name in pair)
    if not own or (by_program and len(own) < len(pair)):
        return None
    for stepper in own.values():
        stepper.rewind()
    name, first = next(iter(own.items()))
    again = first.again(step)
    if len(own) == len(pair):
        sessions = {n: stepper.session for n, stepper in own.items()}
        if by_program:
            sessions = {n: s if _is_by_function(n) else _by_program(s) for n, s in sessions.items()}
        return first_different_call(sessions, again)
    other = next(n for n in pair if n not in own)
    return first_different_traced_call(
        name, first.session, other, cast(Traced, pair[other]), step, again
    )


def _is_by_function(name: str) -> bool:
    """Whether a target runs whole functions. A bundle's own code never does."""
    return name != NATIVE and find_target(name).by_function


def _by_program(session: Session) -> Session:
    """A session in the same state that runs in numpy, function by function."""
    other = Session(session.bundle, target=BY_FUNCTION)
    for name, tensor in session.state().items():
        np.copyto(other.state()[name], tensor)
    other.step_count = session.step_count
    return other
