# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file of data. One error names the first places and counts the others."""

from __future__ import annotations

from gsqc.errors import DataError

SHOWN = 3
"""Problems that an error names."""
SHAPES_HINT = (
    'each record is one JSON object: {"prompt": "…", "completion": "…"}, {"messages": […]}, '
    '{"instruction": "…", "input": "…", "output": "…"} or {"text": "…"} (docs/data.md)'
)


class Problems:
    """The problems of one file. The first are kept, and all are counted."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def add(self, where: str, reason: str) -> None:
        """Note a problem of a record."""
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(f"{where}: {reason}")

    def raise_any(self) -> None:
        """Raise DataError if there was a problem."""
        if self.count:
            more = f" (and {self.count - SHOWN} more lines)" if self.count > SHOWN else ""
            raise DataError("; ".join(self.first) + more, SHAPES_HINT)
