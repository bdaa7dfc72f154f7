# SPDX-License-Identifier: Apache-2.0
"""Steps a bundle on a target, in a session of this process or in gsqc-step under an emulator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import RUNNER
from gsqc.check.sequences import CHECK_RATE, random_sequences, random_step
from gsqc.errors import TargetError
from gsqc.runtime.session import Session
from gsqc.targets.checked import open_checked
from gsqc.targets.interface import Target
from gsqc.targets.registry import NATIVE, best_target, find_own, find_target

Array = npt.NDArray[Any]
Progress = Callable[[str], None]


class Stepper(Protocol):
    """A target that steps the bundle."""

    def digest(self, step: int) -> str:
        """The digest after a step. Steps must be asked for in order."""

    def state(self, step: int) -> dict[str, Array]:
        """The state after the last step that was asked for."""


class SessionStepper:
    """Steps in this process. It keeps the state before the last step, to run that step again."""

    def __init__(self, session: Session, seed: int) -> None:
        """Step `session` on random batches of this seed."""
        self.session, self.seed = session, seed
        self.before: dict[str, Array] = {}

    def digest(self, step: int) -> str:
        """The digest after a step. Steps must be asked for in order."""
        self.before = {name: tensor.copy() for name, tensor in self.session.state().items()}
        return random_step(self.session, step, self.seed)

    def state(self, step: int) -> dict[str, Array]:
        """The state after the last step that was asked for."""
        return self.session.state()

    def again(self, step: int) -> Callable[[Session], object]:
        """A function that runs the last step once more, after `rewind`."""
        return lambda session: random_step(session, step, self.seed)

    def rewind(self) -> None:
        """Go back to the state before the last step."""
        for name, tensor in self.session.state().items():
            tensor[:] = self.before[name]
        self.session.step_count -= 1


@dataclass(frozen=True)
class Settings:
    """What every stepper is made from. `folder` takes code that is compiled now."""

    bundle: Bundle
    folder: Path
    steps: int
    seed: int
    threads: int | None


def _own_target(bundle: Bundle) -> Target:
    """The best target of the bundle's own, else one that an emulator runs. Raises TargetError."""
    try:
        return best_target(bundle)
    except TargetError:
        for target in filter(None, map(find_own, bundle.manifest.targets)):
            with suppress(TargetError):
                target.runner_command(bundle.path)
                return target
        raise


def locate_code(
    target: str, settings: Settings, progress: Progress
) -> tuple[Path, list[str] | None]:
    """The bundle that has the target's code, and the command of gsqc-step if that runs the code.

    Code that the bundle lacks is compiled now. TargetError if the target cannot run here.
    """
    bundle = settings.bundle
    chosen = _own_target(bundle) if target == NATIVE else find_target(target)
    part = bundle.manifest.targets.get(chosen.name)
    # The bundle's own code is run as it stands, whatever a compiler would make of its plan today.
    if chosen.runs_any_bundle or (part is not None and chosen.refusal(part) is None):
        return bundle.path, None
    command = chosen.runner_command(bundle.path)
    if command is not None and chosen.code_file(RUNNER) in bundle.files:
        return bundle.path, command
    progress(f"compiling for {chosen.name}")
    return open_checked(bundle, chosen, settings.folder)


def open_stepper(target: str, path: Path, command: list[str] | None, settings: Settings) -> Stepper:
    """A stepper for the code that `locate_code` found. Raises TargetError."""
    if command is None:
        return SessionStepper(Session(path, target=target, threads=settings.threads), settings.seed)
    from gsqc.check.runner_steps import RunnerStepper

    sequences = [
        random_sequences(settings.bundle, step, settings.seed)
        for step in range(1, settings.steps + 1)
    ]
    return RunnerStepper(path, command, sequences, CHECK_RATE, settings.folder / f"{target}-run")
