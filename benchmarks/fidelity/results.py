# SPDX-License-Identifier: Apache-2.0
"""Results: a file with a JSON line a run, which grows and is never rewritten."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What a run is known by. `rate` is the peak learning rate, as it was written."""

    text: str
    rate: str
    order: int
    side: str
    steps: int
    seq: int
    warmup: int


@dataclass(frozen=True)
class Result:
    """Held-out loss before and after a run, and the loss of each of its steps.

    before   of the untouched side, None if it was not asked for
    tokens   held-out tokens with a loss
    seconds  of the steps and the evaluation after them
    """

    run: Run
    before: float | None
    after: float
    losses: list[float]
    tokens: int
    seconds: float
    threads: int
    machine: str

    def line(self) -> str:
        """One line of JSON, the run's fields first."""
        values = asdict(self)
        return json.dumps({**values.pop("run"), **values})

    @staticmethod
    def of_line(line: str) -> Result:
        """Reads what `line` gives."""
        values = json.loads(line)
        run = Run(**{field.name: values.pop(field.name) for field in fields(Run)})
        return Result(run, **values)


class Results:
    """The results in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.by_run = {r.run: r for r in map(Result.of_line, lines)}

    def add(self, result: Result) -> None:
        """Keep a result, in the file too."""
        self.by_run[result.run] = result
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(result.line() + "\n")

    def before(self, run: Run) -> float | None:
        """The untouched side's loss on the run's held-out records, if any run has measured it."""
        for other, result in self.by_run.items():
            names = ("text", "side", "seq")
            if all(getattr(run, n) == getattr(other, n) for n in names):
                return result.before
        return None
