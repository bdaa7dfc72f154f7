# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file of data, and what of it is not used.

One error names the first places and counts the others. What is only to be told is counted.
"""

from __future__ import annotations

from collections import Counter

from gsqc.errors import DataError

SHOWN = 3
"""Problems that an error names."""
SHAPES_HINT = (
    'each record is one JSON object: {"prompt": "…", "completion": "…"}, {"messages": […]}, '
    '{"instruction": "…", "input": "…", "output": "…"} or {"text": "…"} (docs/data.md)'
)


class Nothing(ValueError):
    """A record is well formed and has nothing to learn. It is left out, unless --strict refuses."""


class Problems:
    """The problems of one file, of which the first are kept and all are counted.

    strict  whether a record with nothing to learn is a problem
    empty   records with nothing to learn, which are left out
    first_empty  where the first of them is, and why
    unused  how many records have each key that gsqc does not use
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.first: list[str] = []
        self.count = 0
        self.empty = 0
        self.first_empty = ""
        self.unused: Counter[str] = Counter()

    def add(self, where: str, reason: str) -> None:
        """Note a problem of a record."""
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(f"{where}: {reason}")

    def note(self, where: str, error: Exception) -> None:
        """Note why a record cannot be used."""
        if self.strict or not isinstance(error, Nothing):
            self.add(where, reason_of(error))
            return
        self.empty += 1
        self.first_empty = self.first_empty or f"{where}: {error}"

    def raise_any(self) -> None:
        """Raise DataError if there was a problem."""
        if self.count:
            more = f" (and {self.count - SHOWN} more lines)" if self.count > SHOWN else ""
            raise DataError("; ".join(self.first) + more, SHAPES_HINT)


def reason_of(error: Exception) -> str:
    """What an error of reading a record says."""
    return str(error) if isinstance(error, ValueError) else "nested too deeply"
