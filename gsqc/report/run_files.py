# SPDX-License-Identifier: Apache-2.0
"""read_run: reads a run directory (docs/runs.md) for a report.

The files may be a stranger's, so every field is checked before it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc.errors import RunError
from gsqc.runtime.store import CONFIG, LOG

_MAXIMUM_LINE = 1 << 20
_NUMBERS = (
    *("loss", "learning_rate", "tokens", "tokens_per_second", "peak_rss_bytes", "gradient_norm"),
    *("validation_loss", "validation_tokens"),
)


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
    if not log.is_file():
        raise RunError(
            f"{path} has no {LOG}: nothing was trained there", f"gsqc train BUNDLE --run {path} …"
        )
    entries: dict[int, Entry] = {}
    skipped = 0
    try:
        for line in _lines(log):
            entry = _entry(line)
            if entry is None:
                skipped += 1
            else:
                entries[entry.step] = entry
        config = (
            json.loads((path / CONFIG).read_text(encoding="utf-8"))
            if (path / CONFIG).is_file()
            else {}
        )
    except (ValueError, RecursionError):
        config = {}
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", "check its permissions") from None
    if not entries:
        raise RunError(
            f"no line of {log} can be read as a step",
            f"train it again: gsqc train BUNDLE --run {path} …",
        )
    ordered = [entries[step] for step in sorted(entries)]
    return RunFiles(path, ordered, config if isinstance(config, dict) else {}, skipped)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a log. One that is too long to be gsqc's comes in pieces."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_MAXIMUM_LINE):
            if line.strip():
                yield line


def _entry(line: str) -> Entry | None:
    """A line as an entry, or None if it is not a step's."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = data.get("step") if isinstance(data, dict) else None
    if type(step) is not int or not 0 <= step < 2**31:
        return None
    numbers = {name: float(data[name]) for name in _NUMBERS if _is_number(data.get(name))}
    digest = data.get("digest")
    return Entry(step, numbers, digest if isinstance(digest, str) else "", data.get("best") is True)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that can be drawn.

    The size is checked first, because an integer may be too large for a float.
    """
    return type(value) in (int, float) and abs(value) < 1e15 and math.isfinite(value)
