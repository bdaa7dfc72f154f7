# SPDX-License-Identifier: Apache-2.0
"""Standard input as a file that can be read several times."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
from functools import cache
from typing import IO, Any

_PART = 1 << 20


class _FromStart(io.RawIOBase):
    """Reads an open file from its start, wherever other readers of it are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position


@cache
def _spooled(most_bytes: int) -> tuple[IO[bytes], int]:
    if sys.stdin is None or sys.stdin.isatty():
        raise OSError(errno.EINVAL, "nothing is piped into it", "standard input")
    file, size = tempfile.TemporaryFile(), 0  # noqa: SIM115  it is kept until the process ends
    while part := sys.stdin.buffer.read(_PART):
        size += len(part)
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"it has more than {most_bytes >> 20} MiB", "standard input")
        file.write(part)
    file.flush()
    return file, size


def open_standard_input(most_bytes: int) -> io.BufferedReader:
    """All of standard input, from its start at each call. It is read once and kept on disk.

    Raises OSError if it is a terminal, or has more than `most_bytes`.
    """
    return io.BufferedReader(_FromStart(_spooled(most_bytes)[0].fileno()))


def standard_input_size(most_bytes: int) -> int:
    """The bytes of standard input. As `open_standard_input`."""
    return _spooled(most_bytes)[1]
