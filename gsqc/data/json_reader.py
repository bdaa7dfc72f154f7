# SPDX-License-Identifier: Apache-2.0
"""Records of .jsonl files, one on each line, and of .json files, which hold an array of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from gsqc.data.content import Content
from gsqc.data.examples import Example
from gsqc.data.problems import Problems, reason_of
from gsqc.data.records import RecordReader, read_each
from gsqc.errors import DataError

_decode = json.JSONDecoder().decode  # json.loads looks at its options for each line
MAXIMUM_ARRAY_BYTES = 64 << 20
"""Of a .json file, which gsqc reads as a whole."""


def read_jsonl(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """Each record behind its place, file:line. Malformed records are added to `problems`.

    Raises DataError if the file cannot be read.
    """
    return read_lines(content.name, content.lines(), problems)


def read_lines(
    name: str, lines: Iterable[tuple[int, str]], problems: Problems, shape: str | None = None
) -> Iterator[tuple[str, Example]]:
    """As `read_jsonl`, for the lines of a file, which stand behind their numbers.

    shape  of the records before these, if there were any
    """
    placed = ((f"{name}:{number}", line) for number, line in lines if line and not line.isspace())
    return read_each(placed, problems, _parsed, shape)


def shape_of_lines(lines: Iterable[str]) -> str:
    """The shape of the first record that is well formed. Raises ValueError if none is."""
    reader = RecordReader()
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            reader.read(_parsed(line))
        if reader.shape is not None:
            return reader.shape
    raise ValueError("no record is well formed")


def _parsed(line: str) -> Any:
    try:
        return _decode(line)
    except json.JSONDecodeError as error:
        raise _in_short(error) from None


def read_array(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """As `read_jsonl`, for a file that is one JSON array of records. The place is a number."""
    name = content.name
    if content.size > MAXIMUM_ARRAY_BYTES:
        most = MAXIMUM_ARRAY_BYTES >> 20
        raise DataError(
            f"{name} has {content.size >> 20} MiB, a .json file is read up to {most}",
            f"make it JSONL: jq -c '.[]' {name} > {name.removesuffix('.json')}.jsonl",
        )
    try:
        records = json.loads(content.text(MAXIMUM_ARRAY_BYTES))
    except json.JSONDecodeError as error:
        raise _no_array(f"{name}:{error.lineno}", _in_short(error)) from None
    except (ValueError, RecursionError) as error:
        raise _no_array(name, error) from None
    if not isinstance(records, list):
        raise DataError(
            f"{name} holds no array of records",
            "write [{…}, {…}], or one record on each line (.jsonl)",
        )
    numbered = ((f"{name} record {number}", record) for number, record in enumerate(records, 1))
    return read_each(numbered, problems)


def _no_array(place: str, error: Exception) -> DataError:
    return DataError(
        f"{place}: {reason_of(error)}",
        "a .json file holds one array of records; JSONL is named .jsonl",
    )


def read_piped(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """As the two others, for standard input. Its first character tells which it is."""
    with content.opened() as stream:
        first = stream.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"[":
        return read_array(content, problems)
    if first in (b"{", b""):
        return read_jsonl(content, problems)
    raise DataError(
        f"{content.name} is neither JSONL nor a JSON array", "save it as a file, with its suffix"
    )


def _in_short(error: json.JSONDecodeError) -> ValueError:
    """An error of Python's reader in a few words."""
    return ValueError(f"not JSON ({error.msg})")
