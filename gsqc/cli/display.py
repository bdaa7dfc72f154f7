# SPDX-License-Identifier: Apache-2.0
"""How train shows a run: a display that stays in place on a terminal, plain lines elsewhere, JSON lines if asked."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gsqc.cli.output import Output, printable
from gsqc.runtime.trainer import Callbacks, End, Trainer
from gsqc.runtime.view import RunView, duration

LINES_EVERY = 5
"""Steps between plain lines."""
REFRESHES_PER_SECOND = 4


def _panel(view: RunView) -> Group:
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


class _Display:
    """Passes what a trainer tells on to the view, and shows it. An entry that is evaluated comes in one line."""

    def __init__(self, trainer: Trainer, out: Output, live: Live | None) -> None:
        self.view = RunView(trainer.options.steps, trainer.entries)
        self.out, self.live = out, live
        self.callbacks = Callbacks(
            self._on_step, self._on_evaluate, self._on_evaluating, self.view.on_save, self._on_warning
        )

    def _show(self) -> None:
        if self.live is not None:
            self.live.update(_panel(self.view))

    def _on_step(self, entry: dict[str, Any]) -> None:
        self.view.on_step(entry)
        self.out.emit(entry)
        step = entry["step"]
        if self.live is None and (step % LINES_EVERY == 0 or step == self.view.steps or "validation_loss" in entry):
            self.out.say(self.view.line(entry))
        self._show()

    def _on_evaluate(self, entry: dict[str, Any]) -> None:
        self.view.on_evaluate(entry)
        if "loss" not in entry:  # before the first step
            self.out.emit(entry)
            if self.live is None:
                self.out.say(self.view.line(entry))
        self._show()

    def _on_evaluating(self, done: int, count: int) -> None:
        self.view.on_evaluating(done, count)
        self._show()

    def _on_warning(self, text: str) -> None:
        self.view.on_warning(text)
        if self.live is None:
            self.out.say(f"warning: {text}")
        self._show()


def show(trainer: Trainer, out: Output) -> End:
    """Run to the end, and show it."""
    if not out.console.is_terminal or out.as_json:
        trainer.callbacks = _Display(trainer, out, None).callbacks
        return trainer.run()
    with Live(console=out.console, refresh_per_second=REFRESHES_PER_SECOND) as live:
        display = _Display(trainer, out, live)
        trainer.callbacks = display.callbacks
        live.update(_panel(display.view))
        return trainer.run()
