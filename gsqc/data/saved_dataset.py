# SPDX-License-Identifier: Apache-2.0
"""Records of a directory that `datasets` of Hugging Face wrote with save_to_disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gsqc.data.content import Content
from gsqc.data.examples import Example
from gsqc.data.problems import Problems
from gsqc.data.table import known_columns, read_table
from gsqc.errors import DataError
from gsqc.files.reading import open_file, read_file

_TRAIN = "train"
_MAXIMUM_STATE = 16 << 20
"""Bytes of state.json, which lists the files of a data set."""


def read_saved_dataset(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each row of a data set behind its place. Of several splits, those of "train".

    Malformed rows are added to `problems`. Raises DataError if the directory cannot be read, and if
    the package `datasets` is missing.
    """
    path = content.file.path
    rows = _open(path)
    columns = known_columns(path.name, rows.column_names, len(rows), problems)
    return read_table(content.name, _rows(rows, columns, path), problems)


def _rows(rows: Any, columns: list[str], path: Path) -> Iterator[Any]:
    """The rows as Python values, whatever format the data set was saved with."""
    try:
        rows.data.validate(full=True)  # reading a damaged table could end the process
        yield from rows.select_columns(columns).with_format(None)
    except Exception as error:  # pyarrow, and what decodes images and sounds
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(
        f"datasets cannot read {path.name}: {reason[:200]}", "save it again with save_to_disk"
    )


def _require_plain_files(path: Path) -> None:
    """DataError unless all files are plain ones. `datasets` opens those that state.json names."""
    try:
        for file in sorted(path.rglob("*")):
            if not file.is_dir():
                open_file(file).close()
            if file.name == "state.json":
                state = json.loads(read_file(file, most_bytes=_MAXIMUM_STATE))
                names = [part["filename"] for part in state["_data_files"]]
                if any(name != Path(name).name for name in names):
                    raise ValueError(f"{file.name} names a file of another directory")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(path, error) from None


def _open(path: Path) -> Any:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise DataError(
            f"{path.name} is a data set of the package datasets, "
            f"which is not installed ({error.name})",
            "pip install datasets, or export it: dataset.to_json('data.jsonl')",
        ) from None
    _require_plain_files(path)
    try:
        found = load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:  # datasets and pyarrow raise many kinds
        raise _unreadable(path, error) from None
    if not isinstance(found, DatasetDict):
        return found
    if _TRAIN not in found:
        raise DataError(
            f"{path.name} has the splits {', '.join(found)}",
            f"give one of them: {path}/{next(iter(found))}",
        )
    return found[_TRAIN]
