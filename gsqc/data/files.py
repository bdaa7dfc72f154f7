# SPDX-License-Identifier: Apache-2.0
"""The files of a data set: which they are, in what order, and their digest. Sizes have limits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from gsqc.data.content import MAXIMUM_DATA_BYTES, STANDARD_INPUT, digests, raw_size, unreadable
from gsqc.data.directories import CHECK_PATH, DataFile, Found, is_saved_dataset, look_into
from gsqc.data.names import RECORD_SUFFIXES, TEXT_SUFFIXES, is_readable
from gsqc.data.options import DataOptions, validation_share
from gsqc.errors import DataError
from gsqc.files.reading import open_file


def find_files(paths: Sequence[Path]) -> Found:
    """The files of a data set in a fixed order, and its directories that `datasets` wrote.

    Other directories stand for files below them. Raises DataError if a path is missing or of an
    unknown kind, if a directory has no files, or if they are too large.
    """
    named = {Path(os.path.realpath(path)) for path in paths if os.path.exists(path)}
    found = Found()
    for path in paths:
        part = _expand(path, named)
        found.train += part.train
        found.held_out += part.held_out
        found.unread += part.unread
    size = sum(raw_size(file) for file in (*found.train, *found.held_out))
    if size > MAXIMUM_DATA_BYTES:
        raise DataError(
            f"the data has {size >> 20} MiB, gsqc reads at most {MAXIMUM_DATA_BYTES >> 20}",
            "give a part of it (head -n 100000)",
        )
    return found


def _expand(path: Path, named: set[Path]) -> Found:
    if str(path) == STANDARD_INPUT:
        return Found([DataFile(path, "standard input")])
    if not os.path.exists(path):  # Path.exists raises for a name that is too long
        raise DataError(f"no such data file: {path}", CHECK_PATH)
    if path.is_dir() and not is_saved_dataset(path):
        return look_into(path, named)
    if path.is_dir() or (path.is_file() and is_readable(path.name)):
        return Found([DataFile(path, path.name)])
    try:
        open_file(path).close()
    except OSError as error:
        raise unreadable(str(path), error) from None
    raise DataError(
        f"{path.name} is neither {', '.join(RECORD_SUFFIXES)} nor {', '.join(TEXT_SUFFIXES)}",
        "give JSONL with prompt and completion or messages, or plain text",
    )


def held_out_files(reading: DataOptions) -> list[DataFile]:
    """The files that are held out: those of --validation, or the split of directories.

    Empty if a share is held out, or nothing. Raises DataError, OptionError.
    """
    if validation_share(reading.validation) is not None:
        return []
    if reading.validation is None:
        return find_files(reading.data).held_out
    found = find_files([Path(reading.validation)])
    return found.held_out or found.train


def data_digest(paths: Sequence[Path]) -> str:
    """The sha256 of the file that is trained on. Of several, it is that of names and digests.

    Raises DataError.
    """
    return files_digest(find_files(paths).train)


def held_out_digest(reading: DataOptions) -> str | None:
    """The digest of the files that are held out. None if none are. Raises DataError, OptionError"""
    files = held_out_files(reading)
    return files_digest(files) if files else None


def files_digest(files: Sequence[DataFile]) -> str:
    """The sha256 of one file, or of the names and digests of several. Raises DataError."""
    parts = [part for file in files for part in digests(file)]
    if len(parts) == 1:
        return parts[0][1]
    lines = "".join(f"{name} {digest}\n" for name, digest in parts)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
