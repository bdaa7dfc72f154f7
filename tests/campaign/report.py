# SPDX-License-Identifier: Apache-2.0
"""Counts what a campaign found, by kind, and writes the table."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

OUTCOMES = ("succeeded", "refused", "killed", "crash", "traceback", "hang", "lost")
"""Those after "killed" are failures. "killed" is a kill of the campaign's own."""
FAILURES = OUTCOMES[3:]
_CASE = re.compile(r"case \d+|'.*|after the same command again.*|\w+=[\w.]+", re.DOTALL)
"""What differs between failures of one cause."""


@dataclass
class Report:
    """The outcomes by kind, and a line for each failure."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str, what: str = "", count: int = 1) -> None:
        """Count an outcome. `what` says how a failure is met again, and what happened."""
        assert outcome in OUTCOMES
        self.counts.setdefault(kind, Counter())[outcome] += count
        if outcome in FAILURES:
            self.failures.append(f"{kind}: {outcome}: {what}")

    def merge(self, other: Report) -> None:
        """Add what another part found."""
        for kind, counts in other.counts.items():
            self.counts.setdefault(kind, Counter()).update(counts)
        self.failures += other.failures

    @property
    def cases(self) -> int:
        """All cases."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def causes(self) -> list[str]:
        """The failures, one of each cause and how many more there are."""
        alike: dict[str, list[str]] = {}
        for failure in self.failures:
            alike.setdefault(_CASE.sub("", failure), []).append(failure)
        return [
            f"{same[0]}" + f" (and {len(same) - 1} more)" * (len(same) > 1)
            for same in alike.values()
        ]

    def table(self) -> str:
        """The counts as Markdown."""
        rows = [("kind", "cases", *OUTCOMES), ("---", *["---:"] * (len(OUTCOMES) + 1))]
        total: Counter[str] = Counter()
        for kind, counts in sorted(self.counts.items()):
            rows.append(_row(kind, counts))
            total.update(counts)
        rows.append(_row("all", total))
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def write(self, path: Path, head: str) -> None:
        """Write the table below a line that says how it was made."""
        path.write_text(f"{head}\n\n{self.table()}", encoding="utf-8")


def _row(kind: str, counts: Counter[str]) -> tuple[str, ...]:
    return (kind, f"{counts.total():,}", *(f"{counts[name]:,}" for name in OUTCOMES))
