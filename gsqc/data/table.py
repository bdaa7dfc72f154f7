# SPDX-License-Identifier: Apache-2.0
"""Records in the rows of Arrow's tables: .parquet files, and data sets of the package datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gsqc.data.examples import Example
from gsqc.data.meanings import MEANT
from gsqc.data.problems import Problems
from gsqc.data.records import KEYS, read_each
from gsqc.errors import DataError


def known_columns(name: str, columns: Sequence[str], rows: int, problems: Problems) -> list[str]:
    """The columns that a record may use or must refuse. Others are counted, once for each row.

    Raises DataError if none can be used.
    """
    if not any(column in KEYS for column in columns):
        raise DataError(
            f"{name} has the columns {', '.join(columns)[:200]}",
            f"rename them to some of {', '.join(KEYS)}",
        )
    known = [column for column in columns if column in KEYS or column in MEANT]
    problems.unused.update({column: rows for column in columns if column not in known})
    return known


def read_table(
    name: str, rows: Iterable[dict[str, Any]], problems: Problems
) -> Iterator[tuple[str, Example]]:
    """The examples of a table's rows, each behind its place. As `read_each`."""
    numbered = ((f"{name} row {number}", row) for number, row in enumerate(rows))
    return read_each(numbered, problems, _record)


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a record. Arrow fills the keys that a record lacks with None.

    A prompt whose completion is None has an empty one, and so has a row of an empty text.
    """
    record: dict[str, Any] = _without_none(row)
    for given, wanted in (("prompt", "completion"), ("instruction", "output")):
        if given in record and wanted in row:
            record.setdefault(wanted, None)
    return record or {key: None for key in row if key == "text"}


def _without_none(value: Any) -> Any:
    """The value without keys that are None."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
