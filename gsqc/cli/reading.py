# SPDX-License-Identifier: Apache-2.0
"""A progress bar while data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gsqc.cli.output import Output


@contextmanager
def reading_bar(out: Output) -> Iterator[Callable[[int, int], None]]:
    """A function for `load_split`, which shows how many bytes are read, on a terminal."""
    columns = TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    shown = out.console.is_terminal and not out.as_json
    with Progress(*columns, console=out.console, transient=True, disable=not shown) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
