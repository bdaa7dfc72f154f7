# SPDX-License-Identifier: Apache-2.0
"""Opens data that a program names by paths, or holds in memory, and runs on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Any

from gsqc.bundle.machine import require_threads
from gsqc.data import DataOptions
from gsqc.data.in_memory import Records, paths_or_records
from gsqc.errors import OptionError, system_errors
from gsqc.option import check_options
from gsqc.training.kept_records import kept_records
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from gsqc.training.trainer import Trainer
from gsqc.values import as_path, unboxed

Keep = Callable[[str, Records], Path]
"""Writes records to a file, under a name, and gives its path."""


def reading_options(keep: Keep, data: Any, validation: Any, **how: Any) -> DataOptions:
    """The options of reading, where `keep` writes records in memory to files.

    data        a path, several, or records
    validation  a path, records, a share of the data as a number or text, or None
    how         the other fields of DataOptions

    Raises OptionError.
    """
    if how.get("images") is not None:
        how["images"] = as_path("images", how["images"])
    check_options(DataOptions((), **how))
    sources = paths_or_records("data", data)
    held_out = _held_out(keep, validation)
    paths = sources if isinstance(sources, tuple) else (keep("data", sources),)
    reading = DataOptions(paths, validation=held_out, **how)
    check_options(reading)
    return reading


def _held_out(keep: Keep, validation: Any) -> str | None:
    value = unboxed(validation)
    if value is None or isinstance(value, str | PurePath | int | float):
        return None if value is None else str(validation)
    sources = paths_or_records("validation", value)
    if not isinstance(sources, tuple):
        return str(keep("validation", sources))
    if len(sources) > 1:
        raise OptionError(
            f"validation names {len(sources)} files", "give one path, records or a share"
        )
    return str(sources[0])


@system_errors()
def open_on(
    opened: ExitStack,
    bundle: Any,
    data: Any,
    run: Any,
    options: TrainOptions,
    threads: Any,
    *,
    on_progress: Callable[[int, int], None],
    **how: Any,
) -> Trainer:
    """The trainer of a run, open until `opened` ends. The run keeps records in memory.

    how  the rest of what `reading_options` takes

    Raises what it and `open_run` raise.
    """
    place, run, threads = as_path("bundle", bundle), as_path("run", run), require_threads(threads)

    def keep(name: str, records: Records) -> Path:
        return opened.enter_context(kept_records(run, name, records))

    reading = reading_options(keep, data, **how)
    settings = {"bundle": place, "run": run, **vars(reading), **vars(options), "threads": threads}
    further = {"threads": threads, "settings": settings, "on_progress": on_progress}
    return opened.enter_context(open_run(place, reading, run, options, **further))
