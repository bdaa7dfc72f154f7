# SPDX-License-Identifier: Apache-2.0
"""What the lines of a log say about a run: its best evaluation, and the trend of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The lowest held-out loss of a run, its step, and how many evaluations came after it."""

    loss: float
    step: int
    evaluations_since: int


def best_of(entries: Sequence[dict[str, Any]]) -> Best | None:
    """The first of the lowest held-out losses; None if there was no evaluation."""
    evaluated = [e for e in entries if "validation_loss" in e]
    if not evaluated:
        return None
    number = min(range(len(evaluated)), key=lambda k: evaluated[k]["validation_loss"])
    best = evaluated[number]
    return Best(best["validation_loss"], best["step"], len(evaluated) - 1 - number)


def trend(losses: Sequence[float]) -> float:
    """Slope of the least-squares line through losses at 0, 1, 2, …: nats a step; 0 for fewer than
    two.
    """
    count = len(losses)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(losses) / count
    spread = sum((k - middle) ** 2 for k in range(count))
    return sum((k - middle) * (loss - mean) for k, loss in enumerate(losses)) / spread
