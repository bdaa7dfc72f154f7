# SPDX-License-Identifier: Apache-2.0
"""Replay: makes the state of a run of zo again from its log, without data or forward passes.

A step of zo moves the weights by noise that comes from the bundle, the step and the query. How far
is in the log: the differences of the losses, and the weight of the step's tokens. The log may be a
stranger's, so each number is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import INITIAL_STATE
from gsqc.bundle.machine import thread_count
from gsqc.data import WEIGHT_ONE
from gsqc.errors import OptionError, RunError
from gsqc.files.reading import read_file
from gsqc.limits import MAXIMUM_SEQUENCE_LENGTH, MAXIMUM_SEQUENCES
from gsqc.numerics.optim.zo import Zo
from gsqc.option import options_of
from gsqc.runtime.digest import Array, state_digest
from gsqc.runtime.load_kernels import load_kernels, open_executor
from gsqc.runtime.requirements import require_session
from gsqc.runtime.run_log import log_entry
from gsqc.runtime.step_methods import move_weights
from gsqc.runtime.store import LOG, MAXIMUM_FILE_BYTES, RunStore
from gsqc.targets.registry import best_target
from gsqc.training.options import TrainOptions, recorded_names
from gsqc.values import is_whole

_WHOLE_LOG = "bring the whole log back from a copy of the run"
_MOST_WEIGHT = WEIGHT_ONE * MAXIMUM_SEQUENCE_LENGTH * MAXIMUM_SEQUENCES
_MOST_DIFFERENCE = 2**63 - 1


@dataclass(frozen=True)
class LoggedStep:
    """What a line of the log says of a step that replay needs.

    digest  of the state after the step
    """

    step: int
    weight: int
    differences: tuple[int, ...]
    digest: str

    @property
    def size_bytes(self) -> int:
        """The size of the numbers that the weights are made of again."""
        return len(json.dumps([self.weight, *self.differences]))


@dataclass(frozen=True)
class Replayed:
    """What a replay gave.

    entries      the lines of the log
    log_bytes    the size of the log, and `numbers_bytes` that of what a replay needs of it
    is_saved     whether the run's saved state was compared too. It was equal then
    """

    state: dict[str, Array]
    digest: str
    entries: list[dict[str, Any]]
    log_bytes: int
    numbers_bytes: int
    is_saved: bool

    @property
    def steps(self) -> int:
        """The steps that were made again."""
        return int(self.entries[-1]["step"])


def run_of(place: Path) -> tuple[Path, Path]:
    """The directory of a run and its log, from either of them. RunError if there is none."""
    log = place / LOG if place.is_dir() else place
    if not log.is_file():
        raise RunError(f"there is no log {log}", f"give a run's directory, or its {LOG}")
    return log.parent, log


def replay(bundle: Bundle, store: RunStore, log: Path, threads: int | None = None) -> Replayed:
    """Make the state again that the log of a run ends with, and compare each step's digest.

    Raises OptionError if the bundle does not train with zo, and RunError for a log that was
    changed or cut.
    """
    optimizer = bundle.manifest.trained_by()
    if not isinstance(optimizer, Zo):
        raise OptionError(
            f"the bundle trains with {optimizer}, whose steps a log is not enough for",
            "gsqc replay takes runs of bundles that were compiled with --optimizer zo",
        )
    content, entries = _read(log)
    steps = list(_steps(log, entries, optimizer.queries))
    options, replayer = _settings(store), _Replayer(bundle, optimizer, thread_count(threads))
    saved = store.load_state(bundle.plan.buffers["state"])
    if saved is not None and saved[1] > len(steps):
        raise RunError(
            f"{log} ends at step {len(steps)}, and the saved state is of step {saved[1]}: the log "
            "was cut",
            _WHOLE_LOG,
        )
    digest = ""
    for logged in steps:
        digest = replayer.step(logged, options)
        if digest != logged.digest:
            raise _changed(log, logged.step)
    if saved is not None and saved[1]:
        found = state_digest({n: saved[0][n] for n in sorted(saved[0])}, saved[1], 1)
        if found != steps[saved[1] - 1].digest:
            raise RunError(f"the saved state of step {saved[1]} is not what {log} says", _WHOLE_LOG)
    size = sum(logged.size_bytes for logged in steps)
    is_saved = saved is not None and saved[1] > 0
    return Replayed(replayer.state(), digest, entries, len(content), size, is_saved)


def _changed(log: Path, step: int) -> RunError:
    return RunError(
        f"{log}: step {step} does not give the digest in its line: the log or {log.parent}'s "
        "settings were changed, or the run did not begin with the bundle's own adapter",
        _WHOLE_LOG,
    )


class _Replayer:
    """The kernels and the state of a bundle, without anything of its model."""

    def __init__(self, bundle: Bundle, optimizer: Zo, threads: int) -> None:
        plan, labels = bundle.plan, bundle.manifest.model.labels or ()
        require_session(plan, bundle.manifest.sequence_length, optimizer, len(labels))
        target = best_target(bundle)
        kernels = load_kernels(bundle, plan, target)
        kernels.set_threads(threads)
        self.executor = open_executor(kernels, bundle, target)
        self.names, self.optimizer, self.threads = sorted(plan.buffers["state"]), optimizer, threads
        tensors = bundle.map_tensors(INITIAL_STATE, plan.buffers["state"])
        for name, tensor in self.state().items():
            np.copyto(tensor, tensors[name], casting="no")

    def state(self) -> dict[str, Array]:
        """The trained tensors by name."""
        return {name: self.executor.tensors[name] for name in self.names}

    def step(self, logged: LoggedStep, options: TrainOptions) -> str:
        """Move the weights as a step did: the digest of the state."""
        rates = options.rates.at(logged.step), options.decay
        inputs = self.optimizer.step_inputs(*rates, logged.step, logged.weight)
        move_weights(self.executor, self.optimizer, logged.step, inputs, logged.differences)
        return state_digest(self.state(), logged.step, self.threads)


def _settings(store: RunStore) -> TrainOptions:
    """The settings of the run that its steps depend on. RunError if config.json lacks them."""
    names = {o.field for o in options_of(TrainOptions) if recorded_names(o) == (o.field,)}
    given = {name: store.config[name] for name in sorted(names) if name in store.config}
    try:
        return TrainOptions(**given)
    except OptionError as error:
        raise RunError(f"{store.path} has no sound settings: {error}", _WHOLE_LOG) from None


def _read(log: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The log, and its lines. RunError names the first one that is none."""
    try:
        content = read_file(log, most_bytes=MAXIMUM_FILE_BYTES, links=False)
    except OSError as error:
        raise RunError(f"cannot read {log}: {error.strerror}", "check its permissions") from None
    lines = content.decode(errors="replace").splitlines()
    entries = [entry for entry in map(log_entry, lines) if entry is not None]
    if len(entries) < len(lines):
        number = next(k for k, line in enumerate(lines, 1) if log_entry(line) is None)
        raise RunError(f"{log}:{number} is no line of a step: it was changed or cut", _WHOLE_LOG)
    return content, entries


def _are_differences(values: Any, count: int) -> bool:
    least, most = -_MOST_DIFFERENCE, _MOST_DIFFERENCE
    is_list = isinstance(values, list) and len(values) == count
    return is_list and all(is_whole(value, least, most) for value in values)


def _steps(log: Path, entries: list[dict[str, Any]], queries: int) -> Iterator[LoggedStep]:
    """The steps of a log, of which there must be all from 1 on. Raises RunError."""
    # A line of step 0 holds the evaluation before the first step.
    trained = [entry for entry in entries if entry["step"] > 0]
    if not trained:
        raise RunError(f"{log} has no step", "train first: gsqc train BUNDLE --run RUN …")
    for step, entry in enumerate(trained, 1):
        if entry["step"] != step:
            found = entry["step"]
            raise RunError(f"{log} has step {found} where step {step} belongs", _WHOLE_LOG)
        weight: Any = entry.get("weight")
        differences: Any = entry.get("differences")
        if not (is_whole(weight, 1, _MOST_WEIGHT) and _are_differences(differences, queries)):
            raise RunError(
                f"{log}: step {step} has no weight of its tokens and {queries} differences of "
                "losses, as whole numbers",
                _WHOLE_LOG,
            )
        yield LoggedStep(step, weight, tuple(differences), entry.get("digest", ""))
