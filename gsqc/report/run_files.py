# SPDX-License-Identifier: Apache-2.0
"""read_run: reads a run directory (docs/runs.md) for a report.

The files may be a stranger's, so every field is checked before it is used.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc.bundle.json_text import read_json
from gsqc.errors import RunError
from gsqc.files.reading import open_file, read_file
from gsqc.runtime.run_log import NUMBERS
from gsqc.runtime.store import CONFIG, LOG

_MAXIMUM_LINE = 1 << 20
_MOST_LOG_BYTES, _MOST_CONFIG_BYTES = 1 << 30, 1 << 24
_LEAST, _MOST = 1e-30, 1e15
"""The magnitudes of numbers that are taken from a log, beside 0."""


@dataclass(frozen=True)
class Entry:
    """A line of log.jsonl: its step, its finite numbers by field, and the state's digest or ""."""

    step: int
    numbers: dict[str, float]
    digest: str = ""
    best: bool = False


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds.

    entries  lines of the log that could be read, by step
    config   config.json as it was written
    skipped  how many lines could not be read
    """

    path: Path
    entries: list[Entry]
    config: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """The steps and the values of a field, from the lines that have it."""
        chosen = [(e.step, e.numbers[name]) for e in self.entries if name in e.numbers]
        return [s for s, _ in chosen], [v for _, v in chosen]

    def last(self, name: str) -> float | None:
        """The last value of a field, or None."""
        return next((e.numbers[name] for e in reversed(self.entries) if name in e.numbers), None)

    @property
    def steps(self) -> int:
        """The last step of the log."""
        return max((e.step for e in self.entries), default=0)

    @property
    def digest(self) -> str:
        """The digest after the last step, or ""."""
        return next((e.digest for e in reversed(self.entries) if e.digest), "")

    @property
    def tokens(self) -> float | None:
        """The weighted tokens of all steps, or None if the log does not hold them."""
        values = self.series("tokens")[1]
        return sum(values) if values else None

    @property
    def seconds(self) -> float | None:
        """The time spent in steps, or None if the log does not hold tokens and speed."""
        pairs = [
            (e.numbers.get("tokens"), e.numbers.get("tokens_per_second")) for e in self.entries
        ]
        known = [t / s for t, s in pairs if t is not None and s]
        return sum(known) if known else None


def read_run(path: Path) -> RunFiles:
    """Read a run directory. RunError if it does not exist or no line of its log can be read."""
    if not path.is_dir():
        raise RunError(
            f"there is no run directory {path}", "give the directory of gsqc train --run"
        )
    log = path / LOG
    entries: dict[int, Entry] = {}
    skipped = 0
    try:
        for line in _lines(log):
            entry = _entry(line)
            if entry is None:
                skipped += 1
            else:
                entries[entry.step] = entry
        config = _config(path / CONFIG)
    except FileNotFoundError:
        raise RunError(
            f"{path} has no {LOG}: nothing was trained there", f"gsqc train BUNDLE --run {path} …"
        ) from None
    except OSError as error:
        where = error.filename or path
        raise RunError(f"cannot read {where}: {error.strerror}", "bring back the file") from None
    if not entries:
        raise RunError(
            f"no line of {log} can be read as a step",
            f"train it again: gsqc train BUNDLE --run {path} …",
        )
    ordered = [entries[step] for step in sorted(entries)]
    return RunFiles(path, ordered, config, skipped)


def _config(path: Path) -> dict[str, Any]:
    """What config.json holds. Empty if there is none, or if it is damaged."""
    try:
        config = read_json(read_file(path, most_bytes=_MOST_CONFIG_BYTES, links=False))
    except (FileNotFoundError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _lines(path: Path) -> Iterator[str]:
    """The lines of a log. One that is too long to be gsqc's comes in pieces."""
    with open_file(path, links=False) as file:
        if os.fstat(file.fileno()).st_size > _MOST_LOG_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MOST_LOG_BYTES >> 20} MiB", str(path))
        while line := file.readline(_MAXIMUM_LINE):
            if line.strip():
                yield line.decode(errors="replace")


def _entry(line: str) -> Entry | None:
    """A line as an entry, or None if it is not a step's."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = data.get("step") if isinstance(data, dict) else None
    if type(step) is not int or not 0 <= step < 2**31:
        return None
    numbers = {name: float(data[name]) for name in NUMBERS if _is_number(data.get(name))}
    digest = data.get("digest")
    return Entry(step, numbers, digest if isinstance(digest, str) else "", data.get("best") is True)


def _is_number(value: Any) -> bool:
    """Whether a value is a number that can be drawn, and divided by another one."""
    return type(value) in (int, float) and (value == 0 or _LEAST <= abs(value) < _MOST)
