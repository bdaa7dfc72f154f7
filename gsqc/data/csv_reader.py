# SPDX-License-Identifier: Apache-2.0
"""Records of .csv files. The first row names the columns, and an empty cell counts as absent."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial

from gsqc.data.content import MAXIMUM_LINE_BYTES, Content
from gsqc.data.examples import Example
from gsqc.data.problems import Problems
from gsqc.data.records import KEYS, MAY_BE_EMPTY, read_each
from gsqc.errors import DataError


def read_csv(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each row as a record behind its place, file:line. Malformed rows are added to `problems`.

    Raises DataError if the file cannot be read, or if no column is known.
    """
    csv.field_size_limit(MAXIMUM_LINE_BYTES)
    rows = csv.reader((line for _, line in content.lines()), strict=True)
    try:
        header = next(rows, [])
        _check_header(content.name, header)
        placed = ((f"{content.name}:{rows.line_num}", row) for row in rows if row)
        yield from read_each(placed, problems, partial(_record, header))
    except csv.Error as error:
        raise DataError(
            f"{content.name}:{rows.line_num}: {error}",
            "write commas between cells, and cells with commas or lines in quotes",
        ) from None


def _check_header(name: str, header: list[str]) -> None:
    """DataError unless the first row names columns that gsqc knows."""
    if len(set(header)) < len(header):
        raise DataError(f"{name} has two columns of one name", "rename one of them")
    if header and not any(column in KEYS for column in header):
        raise DataError(
            f"{name} has the columns {', '.join(header)[:200]}",
            f"the first row names columns, separated by commas: some of {', '.join(KEYS)}",
        )


def _record(header: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise ValueError(f"a row of {len(row)} cells below a header of {len(header)}")
    cells = zip(header, row, strict=True)
    return {column: cell for column, cell in cells if cell or column in MAY_BE_EMPTY}
