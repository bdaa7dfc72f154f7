# SPDX-License-Identifier: Apache-2.0
"""Shows a run while it trains: in place on a terminal, else as plain lines or JSON lines."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gsqc.cli.output import Output
from gsqc.printable import printable
from gsqc.training.callbacks import Callbacks, End, Event, Note
from gsqc.training.trainer import Trainer
from gsqc.training.view import RunView, duration

LINES_EVERY = 5
"""How many steps have one plain line."""
REFRESHES_PER_SECOND = 4


def panel(view: RunView) -> Group:
    """The display: a progress bar above the rows of the view."""
    left = view.seconds_left
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(f"step {view.step} / {view.steps}", style="bold"),
        ProgressBar(view.steps, view.step, width=30),
        Text(f"{100 * view.step // view.steps} %"),
        Text("" if left is None else f"{duration(left)} left"),
        Text(view.activity, style="dim"),
    )
    body = Table.grid(padding=(0, 1))
    body.add_column(style="dim", min_width=9)
    body.add_column(overflow="ellipsis", no_wrap=True)
    for name, text in view.rows():
        body.add_row(name, Text(printable(text), style="yellow" if name == "warning" else ""))
    return Group(head, body)


class _Lines:
    """Prints JSON lines and notes, and lines of steps if no display stays in place.

    The line of a step holds its evaluation. On a terminal, notes stand above the display.
    """

    def __init__(self, view: RunView, out: Output, *, is_plain: bool) -> None:
        self.view, self.out, self.is_plain, self.last = view, out, is_plain, ""
        self.callbacks = Callbacks(
            on_step=self._on_step, on_evaluate=self._on_evaluate, on_note=self._on_note
        )

    def _say(self, entry: dict[str, Any]) -> None:
        if self.is_plain:
            self.out.say(self.view.line(entry))

    def _on_step(self, entry: dict[str, Any]) -> None:
        self.out.emit(entry)
        if (
            entry["step"] % LINES_EVERY == 0
            or entry["step"] == self.view.steps
            or "validation_loss" in entry
        ):
            self._say(entry)

    def _on_evaluate(self, entry: dict[str, Any]) -> None:
        if "loss" not in entry:  # the evaluation before the first step
            self.out.emit(entry)
            self._say(entry)

    def _on_note(self, note: Note) -> None:
        if note.text == self.last:  # a disk that stays full is told at each step
            return
        self.last = note.text
        self.out.emit(note.record)
        if note.event is Event.WARNING:
            self.out.warn(note.text)
        else:
            self.out.say(note.text)


def show(trainer: Trainer, out: Output) -> End:
    """Run to the end and show it. The trainer's own callbacks come after those of the display."""
    view = RunView(trainer.options.steps, trainer.entries)
    is_plain = out.as_json or not out.console.is_terminal
    trainer.callbacks = view.callbacks.then(_Lines(view, out, is_plain=is_plain).callbacks).then(
        trainer.callbacks
    )
    if is_plain or trainer.end is not None:
        return trainer.run()
    with Live(
        console=out.console,
        get_renderable=lambda: panel(view),
        refresh_per_second=REFRESHES_PER_SECOND,
    ):
        return trainer.run()
