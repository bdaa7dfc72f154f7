# SPDX-License-Identifier: Apache-2.0
"""Shows a run in a notebook, in one cell output that stays in place."""

from __future__ import annotations

import html
import sys
import time
from textwrap import wrap
from typing import Any

from gsqc.training.callbacks import Callbacks, End
from gsqc.training.trainer import Trainer
from gsqc.training.view import RunView, duration

WIDTH = 100
SECONDS_BETWEEN = 0.5
"""Least time between updates, because a notebook keeps every update that it gets."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def view_html(view: RunView) -> str:
    """The view as a block of text that keeps its columns, with what the run told below it."""
    left = "" if view.seconds_left is None else f"   {duration(view.seconds_left)} left"
    head = f"step {view.step} / {view.steps}{left}   {view.activity}"
    lines = [head.rstrip(), *(f"{name:10}{text}" for name, text in view.rows())]
    lines += [line for note in view.notes for line in wrap(note, WIDTH, subsequent_indent="  ")]
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


class _Cell:
    """An output of the running cell, replaced at most every SECONDS_BETWEEN."""

    def __init__(self, view: RunView) -> None:
        from IPython.display import HTML, display

        self.view, self.make, self.shown = view, HTML, time.monotonic()
        self.handle: Any = display(HTML(view_html(view)), display_id=True)

    def update(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self.shown >= SECONDS_BETWEEN:
            self.shown = time.monotonic()
            self.handle.update(self.make(view_html(self.view)))


def show_in_notebook(trainer: Trainer) -> End:
    """Run to the end and show it in the running cell.

    The trainer's own callbacks come after those of the display.
    """
    view = RunView(trainer.options.steps, trainer.entries)
    cell = _Cell(view)
    redraw = Callbacks(*[lambda *_: cell.update()] * 5)
    trainer.callbacks = view.callbacks.then(redraw).then(trainer.callbacks)
    try:
        return trainer.run()
    finally:
        cell.update(now=True)
