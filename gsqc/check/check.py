# SPDX-License-Identifier: Apache-2.0
"""run_check: runs the same steps on targets and compares the digests of the state after each step.

The targets are compared with each other, with the digests that the bundle carries, and with those
of a golden file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.check.differences import first_difference
from gsqc.check.golden import Comparison, Golden, compare, own_golden
from gsqc.check.golden_file import read_golden, write_golden
from gsqc.check.lockstep import Difference
from gsqc.check.steppers import Progress, Settings, Stepper, locate_code, open_stepper
from gsqc.errors import OptionError, TargetError
from gsqc.limits import MAXIMUM_CHECK_STEPS, MAXIMUM_SEED, MAXIMUM_THREADS
from gsqc.values import require_whole


@dataclass
class CheckResult:
    """What a check found.

    equal             True only if two targets or more were asked for, all of them ran and none
                      differs; False if two differ; else None
    targets           the digests of each target by step
    first_difference  the first difference between two targets, if there is one
    not_run           why a target did not run
    golden            the comparisons with known digests
    written           the golden file that was written
    """

    equal: bool | None = None
    targets: dict[str, list[str]] = field(default_factory=dict)
    first_difference: Difference | None = None
    not_run: dict[str, str] = field(default_factory=dict)
    golden: list[Comparison] = field(default_factory=list)
    written: str | None = None

    @property
    def differs(self) -> bool:
        """Whether a target differs from another one, or from known digests."""
        return self.equal is False or any(c.difference is not None for c in self.golden)

    @property
    def passed(self) -> bool:
        """Whether every target ran, nothing differs, and something was compared or written."""
        compared = self.equal is not None or self.golden or self.written is not None
        return bool(compared) and not self.differs and not self.not_run


def run_check(
    bundle: Path,
    targets: list[str],
    steps: int,
    *,
    seed: int = 0,
    threads: int | None = None,
    golden: Path | None = None,
    update: bool = False,
    progress: Progress = lambda _: None,
) -> CheckResult:
    """Run `steps` steps on random batches on each target, and stop at the first difference.

    Code that the bundle lacks is compiled from its plan. Code for another kind of machine runs in
    gsqc-step under an emulator. A target that cannot run here is in `not_run` and never counts as
    equal. With `update` the digests are written to `golden` if all targets ran and none differs.
    Raises BundleError, GoldenError, OptionError.
    """
    _check_request(targets, steps, seed, threads)
    if update and golden is None:
        raise OptionError("--update needs a file to write", "name it with --golden FILE")
    result = CheckResult()
    opened = Bundle.open(bundle)
    known = _known_digests(opened, seed, steps, None if update else golden)
    with tempfile.TemporaryDirectory(prefix="gsqc-check-") as folder:
        settings = Settings(opened, Path(folder), steps, seed, threads)
        steppers = _open_steppers(targets, settings, result, progress)
        _step(result, steppers, steps, progress)
    if result.first_difference is not None:
        result.equal = False
    elif len(steppers) > 1 and not result.not_run:
        result.equal = True
    if result.targets:
        result.golden = [compare(g, opened, result.targets) for g in known]
    if golden is not None and update and not result.differs and not result.not_run:
        write_golden(golden, opened, seed, next(iter(result.targets.values())))
        result.written = str(golden)
    return result


def _check_request(targets: list[str], steps: int, seed: int, threads: int | None) -> None:
    are_names = all(isinstance(name, str) and name for name in targets)
    if not targets or not are_names or len(set(targets)) < len(targets):
        raise OptionError("check needs different targets", "as in --on numpy,x86-64")
    require_whole("steps", steps, 1, MAXIMUM_CHECK_STEPS)
    require_whole("seed", seed, 0, MAXIMUM_SEED)
    if threads is not None:
        require_whole("threads", threads, 1, MAXIMUM_THREADS)


def _known_digests(bundle: Bundle, seed: int, steps: int, file: Path | None) -> list[Golden]:
    """The digests of these steps in the bundle and in the file. Raises BundleError, GoldenError."""
    own = own_golden(bundle)
    known = [own] if own is not None and own.seed == seed else []
    return known if file is None else [*known, read_golden(file, bundle, seed, steps)]


def _open_steppers(
    targets: list[str], settings: Settings, result: CheckResult, progress: Progress
) -> dict[str, Stepper]:
    """Compile for every target, then prepare every session.

    So a target that cannot run is known before the first session is prepared.
    """
    places, steppers = {}, {}
    for target in targets:
        try:
            places[target] = locate_code(target, settings, progress)
        except TargetError as error:
            result.not_run[target] = f"{error}; {error.hint}"
    for target, (path, command) in places.items():
        progress(f"preparing {target}")
        try:
            steppers[target] = open_stepper(target, path, command, settings)
            result.targets[target] = []
        except TargetError as error:
            result.not_run[target] = f"{error}; {error.hint}"
    return steppers


def _step(
    result: CheckResult, steppers: dict[str, Stepper], steps: int, progress: Progress
) -> None:
    """Step every target, up to the first step after which two targets differ."""
    for step in range(1, steps + 1):
        for target, stepper in steppers.items():
            progress(f"step {step} on {target}")
            result.targets[target].append(stepper.digest(step))
        if len({digests[-1] for digests in result.targets.values()}) > 1:
            progress("looking for the first operator that differs")
            result.first_difference = first_difference(step, steppers)
            return
