# SPDX-License-Identifier: Apache-2.0
"""Callbacks: what a run reports while it trains, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

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


@dataclass
class Callbacks:
    """The functions that a run calls as it trains.

    on_step        takes the step's line of the log (docs/runs.md)
    on_evaluate    takes the same line with its held-out loss, after on_step of the same step
    on_evaluating  takes how many sequences are evaluated, and of how many
    on_save        takes the step that was saved
    on_warning     takes a text
    """

    on_step: Callable[[Entry], object] = lambda entry: None
    on_evaluate: Callable[[Entry], object] = lambda entry: None
    on_evaluating: Callable[[int, int], object] = lambda done, count: None
    on_save: Callable[[int], object] = lambda step: None
    on_warning: Callable[[str], object] = lambda text: None

    def then(self, other: Callbacks) -> Callbacks:
        """Callbacks that call these first and then the others."""

        def pair(name: str) -> Callable[..., object]:
            first, second = getattr(self, name), getattr(other, name)

            def both(*arguments: Any) -> None:
                first(*arguments)
                second(*arguments)

            return both

        return Callbacks(**{field.name: pair(field.name) for field in fields(Callbacks)})
