# SPDX-License-Identifier: Apache-2.0
"""Callbacks: what a run reports while it trains, and why it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from gsqc.values import require_function

Entry = dict[str, Any]
"""A line of the log (docs/runs.md)."""


class StopTraining(Exception):
    """A callback raises this to end the run after the present step. The state is then saved."""


class End(StrEnum):
    """Why a run ended."""

    DONE = "done"
    EARLY = "stopped early"
    SIGNAL = "stopped"
    CALLBACK = "stopped by a callback"


class Event(StrEnum):
    """What a note is about. docs/training.md lists them."""

    NOTE = "note"
    WARNING = "warning"
    FORECAST = "forecast"
    END = "end"


@dataclass(frozen=True)
class Note:
    """What a run tells beside its log: a sentence, and the numbers in it by name."""

    text: str
    event: Event = Event.NOTE
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The note as JSON data. A line of the log has no `event`."""
        return {"event": str(self.event), "text": self.text, **self.values}


@dataclass
class Callbacks:
    """The functions that a run calls as it trains.

    on_step        takes the step's line of the log (docs/runs.md)
    on_evaluate    takes the same line with its held-out loss, after on_step of the same step
    on_evaluating  takes how many sequences are evaluated, and of how many
    on_save        takes the step that was saved
    on_note        takes a Note
    """

    on_step: Callable[[Entry], object] = lambda entry: None
    on_evaluate: Callable[[Entry], object] = lambda entry: None
    on_evaluating: Callable[[int, int], object] = lambda done, count: None
    on_save: Callable[[int], object] = lambda step: None
    on_note: Callable[[Note], object] = lambda note: None

    def then(self, other: Callbacks) -> Callbacks:
        """Callbacks that call these first and then the others."""

        def pair(name: str) -> Callable[..., object]:
            first, second = getattr(self, name), getattr(other, name)

            def both(*arguments: Any) -> None:
                first(*arguments)
                second(*arguments)

            return both

        return Callbacks(**{field.name: pair(field.name) for field in fields(Callbacks)})


def checked_callbacks(
    on_step: Callable[[Entry], object],
    on_evaluate: Callable[[Entry], object],
    on_save: Callable[[int], object],
    on_note: Callable[[dict[str, Any]], object],
) -> Callbacks:
    """Callbacks of a program that gets notes as records. OptionError for what is no function."""
    names = ("on_step", "on_evaluate", "on_save", "on_note")
    for name, function in zip(names, (on_step, on_evaluate, on_save, on_note), strict=True):
        require_function(name, function)
    return Callbacks(
        on_step, on_evaluate, on_save=on_save, on_note=lambda note: on_note(note.record)
    )
