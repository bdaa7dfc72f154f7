# SPDX-License-Identifier: Apache-2.0
"""check: run the same steps on several targets and compare the digests of the state, step by step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.check.lockstep import Difference, first_different_call, first_different_element
from gsqc.check.traced import Traced, first_different_traced_call
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import OptionError, TargetError
from gsqc.numerics.random import random_bits
from gsqc.runtime.session import Session
from gsqc.targets.checked import open_checked
from gsqc.targets.numpy.target import BY_FUNCTION
from gsqc.targets.registry import NATIVE, find_target, target_of

Array = npt.NDArray[Any]
CHECK_RATE = "0.001"
Progress = Callable[[str], None]


@dataclass
class CheckResult:
    """Digests by target and step; the first difference, if there is one; why a target did not run.

    `equal` is True only if two targets or more were asked for and all of them ran; False if two
    differ; else None.
    """

    equal: bool | None = None
    targets: dict[str, list[str]] = field(default_factory=dict)
    first_difference: Difference | None = None
    not_run: dict[str, str] = field(default_factory=dict)


class Stepper(Protocol):
    """A target that steps the bundle."""

    def digest(self, step: int) -> str:
        """The digest after a step; steps are asked for in order."""

    def state(self, step: int) -> dict[str, Array]:
        """The state after the last step that was asked for."""


def random_sequences(bundle: Bundle, step: int, seed: int) -> list[TokenSequence]:
    """The batch of a step: random tokens, every eighth of weight 0."""
    length, batch = bundle.manifest.sequence_length, bundle.manifest.batch
    sequences = []
    for k in range(batch):
        bits = random_bits(seed, step * batch + k, np.arange(length + 1))
        tokens = (bits % bundle.manifest.model.vocabulary).astype(np.int32)
        weights = np.where(np.arange(length) % 8 == 7, 0, WEIGHT_ONE).astype(np.int32)
        sequences.append(TokenSequence(tokens[:-1].copy(), tokens[1:].copy(), weights))
    return sequences


class SessionStepper:
    """Steps in this process; keeps the state before the last step, so that it can be run again."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session, self.seed = session, seed
        self.before: dict[str, Array] = {}

    def digest(self, step: int) -> str:
        self.before = {name: tensor.copy() for name, tensor in self.session.state().items()}
        return self._step(step, self.session)

    def _step(self, step: int, session: Session) -> str:
        return session.step(
            random_sequences(session.bundle, step, self.seed), Fraction(CHECK_RATE)
        ).digest

    def state(self, step: int) -> dict[str, Array]:
        return self.session.state()

    def again(self, step: int) -> Callable[[Session], object]:
        """What runs the last step once more, after `rewind`."""
        return lambda session: self._step(step, session)

    def rewind(self) -> None:
        """Back to the state before the last step."""
        for name, tensor in self.session.state().items():
            tensor[:] = self.before[name]
        self.session.step_count -= 1


def _first_difference(step: int, steppers: dict[str, Stepper]) -> Difference:
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
            return {
                "step": step,
                "tensor": tensor,
                **found,
                "operator": _first_operator(step, pair),
            }
    raise AssertionError("digests differ, so a tensor does")


def _first_operator(step: int, pair: dict[str, Stepper]) -> Difference | None:
    """Runs the step again; a target that runs whole programs is compared with numpy program by
    program.

    None if neither target runs in this process, or one runs programs and gsqc-step the kernels.
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
    """Whether a target runs whole functions; a bundle's own code never does."""
    return name != NATIVE and find_target(name).by_function


def _by_program(session: Session) -> Session:
    """A session in the same state that runs numpy function by function."""
    other = Session(session.bundle, target=BY_FUNCTION)
    for name, tensor in session.state().items():
        np.copyto(other.state()[name], tensor)
    other.step_count = session.step_count
    return other


@dataclass(frozen=True)
class _Settings:
    """What every stepper is made from."""

    bundle: Bundle
    folder: Path
    steps: int
    seed: int
    threads: int | None


def _locate(target: str, settings: _Settings, progress: Progress) -> tuple[Path, list[str] | None]:
    """The bundle that has the target's code, compiled now if need be, and the command of its
    gsqc-step if that runs it.

    TargetError if the target cannot run here.
    """
    bundle = settings.bundle
    entry = bundle.manifest.target
    own = target_of(entry)
    chosen = own if target == NATIVE else find_target(target)
    if chosen.runs_any_bundle or (chosen.name == own.name and own.refusal(entry) is None):
        return bundle.path, None
    progress(f"compiling for {chosen.name}")
    return open_checked(bundle, chosen, settings.folder)


def _open_stepper(
    target: str, path: Path, command: list[str] | None, settings: _Settings
) -> Stepper:
    if command is None:
        name = target if path == settings.bundle.path else "native"
        return SessionStepper(Session(path, target=name, threads=settings.threads), settings.seed)
    from gsqc.check.runner_steps import RunnerStepper

    sequences = [
        random_sequences(settings.bundle, step, settings.seed)
        for step in range(1, settings.steps + 1)
    ]
    return RunnerStepper(path, command, sequences, CHECK_RATE, settings.folder / f"{target}-run")


def _open_steppers(
    targets: list[str], settings: _Settings, result: CheckResult, progress: Progress
) -> dict[str, Stepper]:
    """Compile first: what cannot run is known before the first session is prepared."""
    places, steppers = {}, {}
    for target in targets:
        try:
            places[target] = _locate(target, settings, progress)
        except TargetError as error:
            result.not_run[target] = f"{error}; {error.hint}"
    for target, (path, command) in places.items():
        progress(f"preparing {target}")
        try:
            steppers[target] = _open_stepper(target, path, command, settings)
            result.targets[target] = []
        except TargetError as error:
            result.not_run[target] = f"{error}; {error.hint}"
    return steppers


def run_check(
    bundle: Path,
    targets: list[str],
    steps: int,
    *,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = lambda _: None,
) -> CheckResult:
    """Run `steps` steps on random batches on each target, side by side, and stop at the first
    difference.

    Code that the bundle lacks is compiled from its plan; code for another kind of machine runs in
    gsqc-step under an emulator. A target that cannot run here is in `not_run` and never counted as
    equal. Raises BundleError, OptionError.
    """
    if not targets or not all(targets) or len(set(targets)) < len(targets) or steps < 1:
        raise OptionError(
            "check needs different targets and a step", "as in --on numpy,x86-64 --steps 3"
        )
    result = CheckResult()
    with tempfile.TemporaryDirectory(prefix="gsqc-check-") as folder:
        settings = _Settings(Bundle.open(bundle), Path(folder), steps, seed, threads)
        steppers = _open_steppers(targets, settings, result, progress)
        _compare(result, steppers, steps, progress)
    if result.first_difference is not None:
        result.equal = False
    elif len(steppers) > 1 and not result.not_run:
        result.equal = True
    return result


def _compare(
    result: CheckResult, steppers: dict[str, Stepper], steps: int, progress: Progress
) -> None:
    for step in range(1, steps + 1):
        for target, stepper in steppers.items():
            progress(f"step {step} on {target}")
            result.targets[target].append(stepper.digest(step))
        if len({digests[-1] for digests in result.targets.values()}) > 1:
            progress("looking for the first operator that differs")
            result.first_difference = _first_difference(step, steppers)
            return
