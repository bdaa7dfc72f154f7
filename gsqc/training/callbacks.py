# SPDX-License-Identifier: Apache-2.0
"""What a run reports while it goes on, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

Entry = dict[str, Any]
"""A line of the log (docs/runs.md)."""


class StopTraining(Exception):
    """A callback raises it to end the run after this step; the state is saved."""


class End(StrEnum):
    """Why a run ended."""

    DONE = "done"
    EARLY = "stopped early"
    SIGNAL = "stopped"
    CALLBACK = "stopped by a callback"


@dataclass
class Callbacks:
    """What a run reports. Each takes a line of the log (docs/runs.md), but `on_warning` takes a
    text and `on_save` a step.

    `on_evaluate` comes after `on_step` of the same step. `on_evaluating` says how many of how many
    sequences are evaluated.
    """

    on_step: Callable[[Entry], object] = lambda entry: None
    on_evaluate: Callable[[Entry], object] = lambda entry: None
    on_evaluating: Callable[[int, int], object] = lambda done, count: None
    on_save: Callable[[int], object] = lambda step: None
    on_warning: Callable[[str], object] = lambda text: None

    def then(self, other: Callbacks) -> Callbacks:
        """Both, these first."""

        def pair(name: str) -> Callable[..., object]:
            first, second = getattr(self, name), getattr(other, name)

            def both(*arguments: Any) -> None:
                first(*arguments)
                second(*arguments)

            return both

        return Callbacks(**{field.name: pair(field.name) for field in fields(Callbacks)})
