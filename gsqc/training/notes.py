# SPDX-License-Identifier: Apache-2.0
"""What a run tells at its beginning and at its end. The terminal, `--json`, a notebook and the
Python API tell the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsqc.training.callbacks import End, Event, Note
from gsqc.training.forecast import Forecast
from gsqc.training.movement import Movement
from gsqc.training.progress import Best

_TIMED = 2
"""Steps after which a run says how long it takes."""


@dataclass(frozen=True)
class State:
    """Where a run is.

    steps     that it is to have, and `step` are those that it has
    digest    computes that of its state
    data      what of its data was cut or left out, or None
    held_out  the same of its held-out data
    """

    path: Path
    steps: int
    step: int
    digest: Callable[[], str]
    best: Best | None
    data: str | None
    held_out: str | None

    @property
    def _best(self) -> str:
        assert self.best is not None
        return f"lowest held-out loss {self.best.loss:.4f} at step {self.best.step}"

    def _end(self, text: str, end: End, digest: str) -> Note:
        values: dict[str, Any] = {"end": str(end), "step": self.step, "digest": digest}
        if self.best is not None:
            values |= {"best_loss": self.best.loss, "best_step": self.best.step}
        return Note(text, Event.END, values)

    def _data_notes(self) -> Iterator[Note]:
        if self.data is not None:
            yield Note(self.data)
        if self.held_out is not None:
            yield Note(f"held-out data: {self.held_out}")

    def opening_notes(self) -> Iterator[Note]:
        """What was left out of the data, and that the run goes on, if it does."""
        yield from self._data_notes()
        if self.step:
            text = f"{self.path} goes on after step {self.step} of {self.steps}"
            yield Note(text, values={"step": self.step})

    def over_notes(self, end: End) -> Iterator[Note]:
        """The same for a run that was over before it was opened."""
        yield from self._data_notes()
        early = f", {end}: {self._best}" if end is End.EARLY else ""
        done = f"{self.path} has {self.step} of {self.steps} steps"
        yield self._end(f"{done}{early}: nothing to do", end, self.digest())

    def end_notes(self, end: End) -> Iterator[Note]:
        """Why the run ended, where its state is, and how to go on."""
        text = "" if end is End.DONE else f"{end} after step {self.step} of {self.steps}; "
        digest = self.digest()
        saved = f"state saved in {self.path}, digest {digest[:16]}"
        yield self._end(text + (saved if self.step else "nothing to save yet"), end, digest)
        if self.best is not None:
            yield Note(f"{self._best}; use it with --run {self.path} --best")
        if end in (End.SIGNAL, End.CALLBACK):
            yield Note(f"go on with: gsqc train --resume {shlex.quote(str(self.path))}")


class FirstSteps:
    """What the first steps of a process show: how long the run takes, and whether weights move."""

    def __init__(self, forecast: Forecast, movement: Movement) -> None:
        """Begin before the first step."""
        self._forecast, self._movement = forecast, movement
        self._seconds: list[float] = []

    def notes(
        self, step: float, evaluation: float | None, peak_bytes: int, *, is_last: bool
    ) -> Iterator[Note]:
        """After a step, which took `step` seconds. The last evaluation took `evaluation`."""
        self._seconds = [*self._seconds, step][: _TIMED + 1]
        # The first step is slower than the others: its memory is new.
        if len(self._seconds) == _TIMED and not is_last:
            yield self._forecast.timed(min(self._seconds), evaluation, peak_bytes)
        found = self._movement.after_step(is_last=is_last)
        if found is not None:
            yield found
