# SPDX-License-Identifier: Apache-2.0
"""Records of a directory that `datasets` of Hugging Face wrote with save_to_disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gsqc.data.problems import Problems
from gsqc.data.records import KEYS, Example, RecordReader
from gsqc.errors import DataError

_TRAIN = "train"


def read_saved_dataset(path: Path, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each row of a data set behind its place. Of several splits, those of "train".

    Malformed rows are added to `problems`. Raises DataError if the directory cannot be read, and if
    the package `datasets` is missing.
    """
    rows = _open(path)
    columns = [name for name in rows.column_names if name in KEYS]
    if not columns:
        raise DataError(
            f"{path.name} has the columns {', '.join(rows.column_names)[:200]}",
            f"rename them to some of {', '.join(KEYS)}",
        )
    reader = RecordReader()
    for number, row in enumerate(rows.select_columns(columns)):
        where = f"{path.name} row {number}"
        try:
            yield where, reader.read(_without_none(row))
        except ValueError as error:
            problems.add(where, str(error))


def _open(path: Path) -> Any:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise DataError(
            f"{path.name} is a data set of the package datasets, "
            f"which is not installed ({error.name})",
            "pip install datasets, or export it: dataset.to_json('data.jsonl')",
        ) from None
    try:
        found = load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:  # datasets and pyarrow raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"datasets cannot read {path.name}: {reason[:200]}", "save it again with save_to_disk"
        ) from None
    if not isinstance(found, DatasetDict):
        return found
    if _TRAIN not in found:
        raise DataError(
            f"{path.name} has the splits {', '.join(found)}",
            f"give one of them: {path}/{next(iter(found))}",
        )
    return found[_TRAIN]


def _without_none(value: Any) -> Any:
    """The value without keys that are None. Arrow fills keys that a record lacks with None."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
