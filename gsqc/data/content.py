# SPDX-License-Identifier: Apache-2.0
"""The bytes and the text of a file of data: unpacked, bounded, and UTF-8 without zero bytes."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from gsqc.data.directories import CHECK_PATH, DataFile
from gsqc.data.names import PACKED
from gsqc.errors import DataError
from gsqc.files.reading import open_file
from gsqc.files.spool import open_standard_input, standard_input_size

MAXIMUM_DATA_BYTES = 512 << 20
"""Of all files together. It is more than a CPU trains on in days, and fits the memory as tokens."""
MAXIMUM_LINE_BYTES = 4 << 20
"""Of a record in a .jsonl file."""
STANDARD_INPUT = "-"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_AS_UTF8 = "save the file as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW, if it is UTF-16"


def unreadable(name: str, error: BaseException) -> DataError:
    """What the system says of a file."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DataError(f"cannot read {name}: {reason}", CHECK_PATH)


def is_standard_input(file: DataFile) -> bool:
    """Whether a file is the user's - for standard input."""
    return str(file.path) == STANDARD_INPUT


def raw_size(file: DataFile) -> int:
    """The bytes of a file, or of a directory that `datasets` wrote. Raises DataError."""
    try:
        if is_standard_input(file):
            return standard_input_size(MAXIMUM_DATA_BYTES)
        return sum(path.stat().st_size for path, _ in _parts(file))
    except OSError as error:
        raise unreadable(file.name, error) from None


def _parts(file: DataFile) -> list[tuple[Path, str]]:
    """The paths that hold a file's data, with names: itself, or the tables of a directory."""
    if not file.path.is_dir():
        return [(file.path, file.name)]
    tables = (path for path in sorted(file.path.rglob("*.arrow")) if path.is_file())
    return [(path, path.relative_to(file.path).as_posix()) for path in tables]


def digests(file: DataFile) -> list[tuple[str, str]]:
    """The sha256 of each part of a file, behind its name. Raises DataError."""
    try:
        if is_standard_input(file):
            with open_standard_input(MAXIMUM_DATA_BYTES) as stream:
                return [(file.name, hashlib.file_digest(cast(Any, stream), "sha256").hexdigest())]
        return [(name, _sha256(path)) for path, name in _parts(file)]
    except OSError as error:
        raise unreadable(file.name, error) from None


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Content:
    """A file of data that is read once. It knows how far it is, and how much it gave.

    Every method raises DataError for what cannot be read, for text that is not UTF-8, for zero
    bytes, and for a packed file that unpacks to more than gsqc reads.
    """

    def __init__(self, file: DataFile) -> None:
        self.file, self.name = file, file.name
        self.size = raw_size(file)
        self._given = 0
        self._raw: BufferedReader | None = None

    @property
    def position(self) -> int:
        """How many of the file's bytes are read."""
        closed = self._raw is None or self._raw.closed
        return 0 if self._raw is None else self.size if closed else self._raw.tell()

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The file as a stream of bytes, unpacked."""
        is_input = is_standard_input(self.file)
        try:
            with (
                open_standard_input(MAXIMUM_DATA_BYTES) if is_input else open_file(self.file.path)
            ) as raw:
                self._raw = raw
                yield gzip.GzipFile(fileobj=raw) if self._is_packed else raw
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self.name, error) from None

    @property
    def _is_packed(self) -> bool:
        return self.file.path.name.lower().endswith(PACKED)

    def count(self, given: int) -> None:
        """Count bytes that were given. DataError if they are more than gsqc reads."""
        self._given += given
        if self._given > MAXIMUM_DATA_BYTES:
            raise DataError(
                f"{self.name} unpacks to more than {MAXIMUM_DATA_BYTES >> 20} MiB",
                "give a part of it",
            )

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines with their ends, behind their numbers."""
        with self.opened() as stream:
            number = 0
            while line := stream.readline(MAXIMUM_LINE_BYTES + 1):
                number += 1
                if len(line) > MAXIMUM_LINE_BYTES:
                    raise DataError(
                        f"{self.name}:{number}: a line longer than {MAXIMUM_LINE_BYTES >> 20} MiB",
                        "have one record on each line, and cut long texts into several records",
                    )
                self.count(len(line))
                yield number, self._decode(line, number)

    def blocks(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Whole lines of a little more than `size` bytes, behind the number of the first of them.

        A line that is too long may be cut.
        """
        with self.opened() as stream:
            first = 1
            while block := stream.read(size):
                block += stream.readline(MAXIMUM_LINE_BYTES + 1)
                self.count(len(block))
                yield first, block
                first += block.count(b"\n")

    def text(self, most_bytes: int = MAXIMUM_DATA_BYTES) -> str:
        """All of it, with lines ended by \\n. `most_bytes` are those of the unpacked file."""
        with self.opened() as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise DataError(
                f"{self.name} has more than {most_bytes >> 20} MiB, "
                f"a file of its kind is read up to {most_bytes >> 20}",
                "give a part of it",
            )
        self.count(len(content))
        return self._decode(content).replace("\r\n", "\n").replace("\r", "\n")

    def _decode(self, content: bytes, number: int | None = None) -> str:
        """Bytes as text, of the line with this number or of the whole file."""
        if number in (None, 1):
            self._require_utf8_mark(content)
            content = content.removeprefix(BYTE_ORDER_MARK)
        at = -1 if b"\0" not in content else content.index(b"\0")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            place = self._place(content, error.start, number)
            raise DataError(f"{place[0]} is not UTF-8 ({place[1]})", _AS_UTF8) from None
        if at >= 0:
            odd = content[:4096].count(0) * 3 > len(content[:4096])
            what = "is UTF-16 or the like" if odd else "has a zero byte, so it is no text"
            place = self._place(content, at, number)
            raise DataError(f"{place[0]} {what} ({place[1]})", _AS_UTF8)
        return text

    def _require_utf8_mark(self, content: bytes) -> None:
        """DataError if a byte order mark says that the text has another encoding."""
        if content.startswith(_UTF16_MARKS):
            raise DataError(f"{self.name} is UTF-16, not UTF-8", _AS_UTF8)

    def _place(self, content: bytes, at: int, number: int | None) -> tuple[str, str]:
        """The name of a byte's place: the line and the byte, or the byte and the line."""
        if number is not None:
            return f"{self.name}:{number}", f"byte {at}"
        return self.name, f"byte {at} in line {content.count(10, 0, at) + 1}"
