# SPDX-License-Identifier: Apache-2.0
"""RunView: a run at a moment as texts, for the terminal, a notebook and plain lines alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gsqc.training.callbacks import Callbacks, Event, Note
from gsqc.training.progress import best_of, trend

RECENT = 20
"""How many of the last steps give the trend and the time left."""
BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40


def curve(losses: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """Losses as a line of bars: the higher the loss, the higher the bar.

    Each bar is the mean of an equal stretch if there are more than `width` losses.
    """
    if not losses:
        return ""
    count = min(len(losses), width)
    edges = [k * len(losses) // count for k in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((m - low) * scale)] for m in means)


def duration(seconds: float) -> str:
    """Seconds as 4:07 or 1:04:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass
class RunView:
    """Follows a run of `steps` steps by its callbacks. `entries` are the trainer's log lines."""

    steps: int
    entries: list[dict[str, Any]]
    activity: str = ""
    warning: str = ""
    notes: list[str] = field(default_factory=list)
    _times: list[float] = field(default_factory=lambda: [time.monotonic()])

    @property
    def callbacks(self) -> Callbacks:
        """Callbacks that keep the view up to date, except `entries`, to which the trainer adds."""
        return Callbacks(
            self._on_step, self._on_evaluate, self._on_evaluating, self._on_save, self._on_note
        )

    def _on_step(self, entry: dict[str, Any]) -> None:
        self._times = [*self._times[-RECENT:], time.monotonic()]
        self.activity = ""

    def _on_evaluating(self, done: int, count: int) -> None:
        self.activity = f"evaluating {done} of {count}"

    def _on_evaluate(self, entry: dict[str, Any]) -> None:
        self.activity = ""

    def _on_save(self, step: int) -> None:
        self.warning = ""

    def _on_note(self, note: Note) -> None:
        if note.event is Event.WARNING:
            self.warning = note.text
        if note.text not in self.notes[-1:]:  # a disk that stays full is told at each step
            self.notes.append(note.text)

    @property
    def step(self) -> int:
        """The last step of the log."""
        return int(self.entries[-1]["step"]) if self.entries else 0

    @property
    def seconds_left(self) -> float | None:
        """The time left by the last steps, evaluations included. None before the second step."""
        if len(self._times) < 3:
            return None
        each = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        return each * (self.steps - self.step)

    def rows(self) -> list[tuple[str, str]]:
        """The name and the text of each line of the display."""
        stepped = [e for e in self.entries if "loss" in e]
        rows = []
        if stepped:
            last, losses = stepped[-1], [e["loss"] for e in stepped]
            slope = trend(losses[-RECENT:]) * RECENT
            rows += [
                ("loss", f"{last['loss']:.4f}   {curve(losses)}   {slope:+.3f} in {RECENT} steps")
            ]
        evaluated = [e for e in self.entries if "validation_loss" in e]
        if (best := best_of(self.entries)) is not None:
            text = f"{evaluated[-1]['validation_loss']:.4f} at step {evaluated[-1]['step']}"
            rows.append(("held-out", f"{text}   lowest {best.loss:.4f} at step {best.step}"))
        if stepped:
            memory = f"{last.get('peak_rss_bytes', 0) / 2**20:.0f} MiB peak"
            rate = (
                f"   learning rate {last['learning_rate']:.3g}" if "learning_rate" in last else ""
            )
            rows.append(
                (
                    "speed",
                    f"{last.get('tokens_per_second', 0):.0f} tokens/s   memory {memory}{rate}",
                )
            )
            norm = (
                f"   gradient norm {last['gradient_norm']:.3g}" if "gradient_norm" in last else ""
            )
            rows.append(("digest", f"{last.get('digest', '')[:16]}{norm}"))
        if self.warning:
            rows.append(("warning", self.warning))
        return rows

    def line(self, entry: dict[str, Any]) -> str:
        """A step in one line, for output that is no terminal."""
        held_out = (
            f"  held-out {entry['validation_loss']:.4f}" if "validation_loss" in entry else ""
        )
        if "loss" not in entry:
            return f"step {entry['step']:4d}{held_out}"
        speed = f"{entry['tokens_per_second']:.0f} tokens/s"
        return f"step {entry['step']:4d}  loss {entry['loss']:.4f}{held_out}  {speed}"
