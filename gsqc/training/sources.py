# SPDX-License-Identifier: Apache-2.0
"""reading_options: how data is read that a program names by paths, or holds in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from gsqc.data import DataOptions
from gsqc.data.in_memory import Records, paths_or_records
from gsqc.errors import OptionError
from gsqc.option import check_options
from gsqc.values import unboxed

Keep = Callable[[str, Records], Path]
"""Writes records to a file, under a name, and gives its path."""


def reading_options(
    keep: Keep, data: Any, validation: Any, *, mask_prompt: bool, packing: bool
) -> DataOptions:
    """The options of reading, where `keep` writes records in memory to files.

    data        a path, several, or records
    validation  a path, records, a share of the data as a number or text, or None

    Raises OptionError.
    """
    check_options(DataOptions((), mask_prompt, packing))
    sources = paths_or_records("data", data)
    held_out = _held_out(keep, validation)
    paths = sources if isinstance(sources, tuple) else (keep("data", sources),)
    reading = DataOptions(paths, mask_prompt, packing, held_out)
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
