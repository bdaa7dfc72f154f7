# SPDX-License-Identifier: Apache-2.0
"""Output: prints for people with Rich, or JSON lines only."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO, cast

from rich.console import Console

from gsqc.errors import NoReaderError
from gsqc.printable import printable

_PLAIN = str.maketrans("█▁▂▃▄▅▆▇━╺╸│…–·•", "#.::---#---|.-.*")
"""For characters that gsqc prints itself, ones that every console has."""


class _AnyText:
    """Standard output, which takes any text, whatever encoding it has.

    A console may know ASCII only, or a code page. What it does not know is replaced.
    """

    @property
    def _stream(self) -> Any:
        # Rich puts its own stream in the place of sys.stdout, and that one would come back here.
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return cast(int, self._stream.write(_encodable(text, encoding)))


def _encodable(text: str, encoding: str) -> str:
    """The text with what an encoding lacks replaced: by a plain character, or by its number."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text


def mib(size: int) -> str:
    """A size in MiB, for people."""
    mebibytes = size / (1 << 20)
    return f"{mebibytes:,.0f} MiB" if mebibytes >= 10 else f"{mebibytes:,.1f} MiB"


class Output:
    """Prints for people, or with `json` one JSON object per line and nothing else."""

    def __init__(self, as_json: bool) -> None:
        """Print for scripts if `as_json`, else for people."""
        self.as_json = as_json
        self.console = Console(file=cast(TextIO, _AnyText()), quiet=as_json, highlight=False)

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning in a line. Scripts read stdout, so theirs goes to stderr."""
        if self.as_json:
            _write(sys.stderr, f"warning: {printable(text)}")
        else:
            self.say(f"warning: {text}")

    def note(self, text: str) -> None:
        """Print a note beside a result, on stderr. Scripts find it in the JSON line."""
        if not self.as_json:
            _write(sys.stderr, f"note: {printable(text)}")

    def emit(self, record: dict[str, Any]) -> None:
        """Print a JSON line for scripts."""
        if self.as_json:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()

    def tell(self, record: dict[str, Any]) -> None:
        """Print the `text` of a record for people, or the whole record for scripts."""
        self.say(record["text"])
        self.emit(record)


def print_error(message: str, hint: str, *, as_json: bool) -> None:
    """Print an error and its hint in one line on stderr, or in one JSON object on stdout."""
    message, hint = (printable(" ".join(text.split())) for text in (message, hint))
    record = json.dumps({"error": message, "hint": hint})
    if not as_json or not _write(sys.stdout, record):
        _write(sys.stderr, f"error: {message}; {hint}")


def _write(stream: TextIO, line: str) -> bool:
    """Write a line, and say whether the stream took it."""
    try:
        line = _encodable(line, getattr(stream, "encoding", None) or "utf-8")
        stream.write(f"{line}\n")
        stream.flush()
    except (OSError, NoReaderError):
        return False
    return True
