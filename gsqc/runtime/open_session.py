# SPDX-License-Identifier: Apache-2.0
"""open_session: a session for the functions of `gsqc` that users call with a bundle and a run."""

from __future__ import annotations

from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.machine import require_threads
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state
from gsqc.values import as_path, require_truth


def open_session(bundle: Any, run: Any, best: Any, threads: Any) -> Session:
    """A session that does not train. Arguments are checked before the bundle is read.

    run  its state, or with `best` its best one, has to be there. None for the initial state

    Raises what Session raises.
    """
    place = None if run is None else as_path("run", run)
    is_best, path = require_truth("best", best), as_path("bundle", bundle)
    require_threads(threads)
    require_state(place, BEST if is_best else STATE)
    return Session(Bundle.open(path), place, threads=threads, best=is_best)
