# SPDX-License-Identifier: Apache-2.0
"""reading_bar: shows how much of the data is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gsqc.cli.output import Output

SECONDS_TO_BAR = 0.5
"""Reading that takes less shows nothing on a terminal."""
SECONDS_TO_LINE = 5
"""Reading that takes more has one line where no bar can stay in place."""


@contextmanager
def reading_bar(out: Output) -> Iterator[ReadingBar]:
    """A bar that goes away at the end, also after an error."""
    bar = ReadingBar(out)
    try:
        yield bar
    finally:
        bar.stop()


class ReadingBar:
    """A bar on a terminal, which goes away when all is read. Elsewhere a line, if it takes long."""

    def __init__(self, out: Output) -> None:
        """Nothing is shown yet."""
        self._out, self._start, self._is_told = out, time.monotonic(), False
        self._bar = Progress(
            TextColumn("reading"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=out.console,
            transient=True,
        )
        self._task = self._bar.add_task("reading")

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar.live.is_started:  # or an empty line would be printed
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are read. At the end they are equal."""
        seconds = time.monotonic() - self._start
        if not self._out.console.is_terminal:
            if seconds > SECONDS_TO_LINE and done < total and not self._is_told:
                self._is_told = True
                self._out.say(f"reading {total / 1e6:,.0f} MB of data")
            return
        if done >= total:
            self.stop()
        elif seconds > SECONDS_TO_BAR:
            self._bar.update(self._task, completed=done, total=total)
            self._bar.start()
