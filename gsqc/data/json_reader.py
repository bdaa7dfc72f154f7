# SPDX-License-Identifier: Apache-2.0
"""Records of .jsonl files, one on each line, and of .json files, which hold an array of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gsqc.data.files import MAXIMUM_ARRAY_BYTES, file_size, read_lines, read_text
from gsqc.data.problems import Problems
from gsqc.data.records import Example, RecordReader
from gsqc.errors import DataError


def read_jsonl(path: Path, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each record behind its place, file:line. Malformed records are added to `problems`.

    Raises DataError if the file cannot be read.
    """
    reader = RecordReader()
    for where, line in read_lines(path):
        try:
            example = reader.read(json.loads(line))
        except (ValueError, RecursionError) as error:
            problems.add(where, _reason(error))
        else:
            yield where, example


def read_array(path: Path, problems: Problems) -> Iterator[tuple[str, Example]]:
    """As `read_jsonl`, for a file that is one JSON array of records. The place is a number."""
    size = file_size(path)
    if size > MAXIMUM_ARRAY_BYTES:
        raise DataError(
            f"{path.name} has {size >> 20} MiB, "
            f"a .json file is read up to {MAXIMUM_ARRAY_BYTES >> 20}",
            f"make it JSONL: jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )
    try:
        records = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            f"{path.name}{line}: {_reason(error)}",
            "a .json file holds one array of records; JSONL is named .jsonl",
        ) from None
    if not isinstance(records, list):
        raise DataError(
            f"{path.name} holds no array of records",
            "write [{…}, {…}], or one record on each line (.jsonl)",
        )
    reader = RecordReader()
    for number, record in enumerate(records, 1):
        where = f"{path.name} record {number}"
        try:
            example = reader.read(record)
        except (ValueError, RecursionError) as error:
            problems.add(where, _reason(error))
        else:
            yield where, example


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg})"
    return str(error) if isinstance(error, ValueError) else "nested too deeply"
