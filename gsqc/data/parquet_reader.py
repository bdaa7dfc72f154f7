# SPDX-License-Identifier: Apache-2.0
"""Records of .parquet files, by the package pyarrow where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gsqc.data.content import MAXIMUM_DATA_BYTES, Content
from gsqc.data.examples import Example
from gsqc.data.problems import Problems
from gsqc.data.table import known_columns, read_table
from gsqc.errors import DataError

_ROWS = 256
"""Rows that are held as Python values at once."""


def read_parquet(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each row as a record behind its place. Malformed rows are added to `problems`.

    Raises DataError if the file cannot be read, if no column is known, or without pyarrow.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{content.name} needs the package pyarrow, which is not installed ({error.name})",
            "pip install pyarrow, or write the rows as JSONL",
        ) from None
    with content.opened() as stream:
        try:
            table = parquet.ParquetFile(stream)
            names = list(table.schema_arrow.names)
            unpacked = sum(
                table.metadata.row_group(k).total_byte_size for k in range(table.num_row_groups)
            )
        except Exception as error:  # pyarrow raises many kinds
            raise _unreadable(content, error) from None
        if unpacked > MAXIMUM_DATA_BYTES:
            content.count(unpacked)
        columns = known_columns(content.name, names, table.metadata.num_rows, problems)
        yield from read_table(content.name, _rows(table, columns, content), problems)


def _rows(table: Any, columns: list[str], content: Content) -> Iterator[Any]:
    """The rows as Python values. A damaged part is refused before it is looked into."""
    try:
        for part in table.iter_batches(_ROWS, columns=columns, use_threads=False):
            part.validate(full=True)
            content.count(part.nbytes)
            yield from part.to_pylist()
    except DataError:
        raise
    except Exception as error:  # as above
        raise _unreadable(content, error) from None


def _unreadable(content: Content, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(f"pyarrow cannot read {content.name}: {reason[:200]}", "write the file again")
