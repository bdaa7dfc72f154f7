# SPDX-License-Identifier: Apache-2.0
"""Takes the digests of a new bundle's first steps, which the bundle then carries.

`gsqc check BUNDLE` compares with them on any machine that the bundle gets to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import FirstSteps
from gsqc.check.sequences import random_step
from gsqc.errors import GsqcError, TargetError
from gsqc.runtime.session import Session
from gsqc.targets.checked import open_checked
from gsqc.targets.registry import NATIVE, best_target, find_target

FIRST_STEPS = 3
FIRST_SEED = 0
NUMPY_LIMIT = 1 << 26
"""The largest product of the base's bytes and a step's tokens that numpy steps in some seconds."""


def take_first_digests(path: Path, *, say: Callable[[str], object]) -> FirstSteps | None:
    """Step the bundle at `path`, and give the digests as its manifest holds them.

    If this machine cannot step the bundle, say why and return None.
    """
    bundle = Bundle.open(path)
    try:
        with tempfile.TemporaryDirectory(prefix="gsqc-first-steps-") as folder:
            target, session = _open_session(bundle, Path(folder))
            steps = range(1, FIRST_STEPS + 1)
            digests = [random_step(session, step, FIRST_SEED) for step in steps]
    except GsqcError as error:
        say(f"the bundle carries no digests of its first steps: {error}")
        return None
    return FirstSteps(FIRST_SEED, tuple(digests), target)


def _open_session(bundle: Bundle, folder: Path) -> tuple[str, Session]:
    """The name of the first target that can run here, and a session on it. Raises TargetError."""
    reason: GsqcError | None = None
    try:
        own = best_target(bundle)
        if not own.runs_any_bundle:
            return own.name, Session(bundle)
    except TargetError as error:
        reason = error
    native = find_target(NATIVE)
    if not native.runs_any_bundle:
        try:
            code, _ = open_checked(bundle, native, folder)
            return native.name, Session(code)
        except TargetError as error:
            reason = error
    return "numpy", _numpy(bundle, reason)


def _numpy(bundle: Bundle, reason: GsqcError | None) -> Session:
    """A session in numpy. TargetError for a bundle with which numpy would take minutes."""
    tokens = bundle.manifest.sequence_length * bundle.manifest.batch
    if bundle.plan.buffer_bytes("base") * tokens > NUMPY_LIMIT:
        raise TargetError(
            f"this machine cannot run its code, and the model is too large for numpy ({reason})",
            "take the digests elsewhere with gsqc check BUNDLE --golden FILE --update",
        )
    return Session(bundle, target="numpy")
