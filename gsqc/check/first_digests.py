# SPDX-License-Identifier: Apache-2.0
"""The digests of a new bundle's first steps, which it carries from then on.

`gsqc check BUNDLE` compares with them, on whatever machine the bundle is by then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.check.golden import target_of
from gsqc.check.sequences import random_step
from gsqc.errors import BundleError, GsqcError, TargetError
from gsqc.runtime.session import Session

FIRST_STEPS = 3
FIRST_SEED = 0
NUMPY_LIMIT = 1 << 26
"""numpy is taken up to this product of weights' bytes and tokens a step: some seconds."""


def take_first_digests(path: Path, *, say: Callable[[str], object]) -> dict[str, Any] | None:
    """Step the bundle at `path`: the manifest's `golden`. If nothing here can step it, say why and
    return None.
    """
    bundle = Bundle.open(path, check_machine=False)
    try:
        with tempfile.TemporaryDirectory(prefix="gsqc-first-steps-") as folder:
            target, session = _open_session(bundle, Path(folder))
            steps = range(1, FIRST_STEPS + 1)
            digests = [random_step(session, step, FIRST_SEED) for step in steps]
    except GsqcError as error:
        say(f"the bundle carries no digests of its first steps: {error}")
        return None
    return {"seed": FIRST_SEED, "steps": digests, "target": target}


def _open_session(bundle: Bundle, folder: Path) -> tuple[str, Session]:
    """The name of the first target that can run here, and a session on it. Raises TargetError."""
    session = _own_code(bundle)
    if session is not None:
        return target_of(bundle), session
    try:
        from gsqc.targets import NATIVE, resolve_target
        from gsqc.targets.checked import open_checked

        native = resolve_target(NATIVE)
        code, _ = open_checked(bundle, native, folder)
    except (ImportError, TargetError) as error:
        return "numpy", _numpy(bundle, error)
    return native, Session(code)


def _own_code(bundle: Bundle) -> Session | None:
    """A session on the bundle's own code; None if that is for another machine or an absent GPU."""
    try:
        own = Bundle.open(bundle.path)
    except BundleError:
        return None
    try:
        return Session(own)
    except TargetError:
        return None


def _numpy(bundle: Bundle, reason: Exception) -> Session:
    """A session on numpy; TargetError for a bundle that would take it minutes."""
    tokens = bundle.manifest["sequence_length"] * bundle.manifest["batch"]
    if bundle.plan.buffer_bytes("base") * tokens > NUMPY_LIMIT:
        raise TargetError(
            f"this machine cannot run its code, and it is too large for numpy ({reason})",
            "write them elsewhere with gsqc check BUNDLE --golden FILE --update",
        )
    return Session(bundle, target="numpy")
