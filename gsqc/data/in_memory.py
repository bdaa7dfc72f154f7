# SPDX-License-Identifier: Apache-2.0
"""Records in memory: lists of dicts, and tables of pandas, polars, pyarrow and datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from gsqc.errors import DataError, OptionError
from gsqc.files.writing import write_new
from gsqc.values import as_path, shown

Records = list[Mapping[str, Any]]
_HINT = 'give paths, or records such as [{"prompt": "…", "completion": "…"}, …]'


def paths_or_records(name: str, data: Any) -> tuple[Path, ...] | Records:
    """The paths that `data` names, or the records that it holds. Raises OptionError."""
    if isinstance(data, str | PurePath):
        return (as_path(name, data),)
    if isinstance(data, Mapping):
        raise OptionError(
            f"{name} is a {type(data).__name__} and no list of records",
            'put a record into a list, or give one of several splits: data["train"]',
        )
    found = list(_rows(name, data))
    if not found:
        raise OptionError(f"{name} is empty", _HINT)
    if all(isinstance(one, Mapping) for one in found):
        return found
    if any(isinstance(one, Mapping) for one in found):
        raise OptionError(f"{name} has both records and other values", _HINT)
    return tuple(as_path(name, one) for one in found)


def _rows(name: str, data: Any) -> Iterable[Any]:
    """What a list or a table holds."""
    if hasattr(data, "to_dicts"):  # polars
        return list(data.to_dicts())
    if hasattr(data, "to_pylist"):  # pyarrow
        return list(data.to_pylist())
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # pandas
        return list(data.to_dict("records"))
    try:
        return list(data)  # a list, a generator, a split of datasets
    except TypeError:
        raise OptionError(f"{name} {shown(data)} names no file", _HINT) from None


def as_jsonl(name: str, records: Records) -> bytes:
    """Records as the content of a .jsonl file. Raises DataError.

    Keys without a value are left out, because a table has all keys in every row.
    """
    lines = []
    for number, record in enumerate(records, 1):
        kept = {k: v for k, v in record.items() if not _is_missing(v)}
        try:
            lines.append(json.dumps(kept, default=_plain, allow_nan=False) + "\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"record {number} of {name} has a value that JSON cannot hold ({error})",
                "give texts, numbers, lists and dicts",
            ) from None
    return "".join(lines).encode()


def write_records(folder: Path, name: str, records: Records) -> Path:
    """A new file with records, FOLDER/NAME.jsonl. Raises DataError, OSError."""
    path = folder / f"{name}.jsonl"
    write_new(path, as_jsonl(name, records))
    return path


def _is_missing(value: Any) -> bool:
    """Whether a table has no value here: None, or the NaN of pandas."""
    return value is None or (isinstance(value, float) and value != value)


def _plain(value: Any) -> Any:
    """An array or a number of numpy as JSON data."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")
