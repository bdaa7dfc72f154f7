# SPDX-License-Identifier: Apache-2.0
"""RunFiles: writes what a training run keeps. A disk that is full for a while loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gsqc.errors import RunError, RunTakenError
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, RunStore
from gsqc.training.callbacks import Entry


@dataclass
class RunFiles:
    """The log, the state and the best state of a run, and what of them is not written yet.

    entries   the lines of the log so far
    warn      takes a text, if something could not be written
    on_save   takes the step that was saved
    saved     the step that the saved state has
    unlogged  lines that the log lacks
    is_stale  whether a line of the log was changed
    """

    session: Session
    store: RunStore
    entries: list[Entry]
    warn: Callable[[str], object]
    on_save: Callable[[int], object]
    saved: int = field(init=False)
    unlogged: list[Entry] = field(default_factory=list)
    is_stale: bool = False
    _best: tuple[dict[str, Any], int] | None = None

    def __post_init__(self) -> None:
        """A run begins with what is saved."""
        self.saved = self.session.step_count

    def attempt(self, write: Callable[[], None]) -> bool:
        """Write in the middle of a run. If the disk is full, the run warns and keeps training."""
        try:
            write()
        except RunError as error:
            if isinstance(error, RunTakenError):
                raise
            self.warn(f"{error}; the run goes on and tries again")
            return False
        return True

    def write_log(self) -> None:
        """Write the lines that the log lacks, or the whole log if a line of it was changed."""
        if self.is_stale:
            self.store.write_log(self.entries)
        elif self.unlogged:
            self.store.append_log(self.unlogged)
        self.is_stale = False
        self.unlogged.clear()

    def keep_best(self) -> None:
        """Keep the present state as the best one."""
        step = self.session.step_count
        self._best = (self.session.state(), step)
        if not self.attempt(self._save_best):
            # The next step changes the state, so a copy waits for the next save.
            copies = {name: tensor.copy() for name, tensor in self.session.state().items()}
            self._best = (copies, step)

    def _save_best(self) -> None:
        if self._best is not None:
            self.store.save_state(*self._best, BEST)
            self._best = None

    def save(self) -> None:
        """Write all that is not written yet. Raises RunError."""
        self._save_best()
        self.write_log()
        if self.session.step_count > self.saved:
            self.session.save()
            self.saved = self.session.step_count
            self.on_save(self.saved)
