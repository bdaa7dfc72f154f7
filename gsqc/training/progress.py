# SPDX-License-Identifier: Apache-2.0
"""The best evaluation of a run and the trend of its loss, from the lines of its log."""

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
    """The evaluation with the lowest held-out loss, the first of equals. None without any."""
    evaluated = [e for e in entries if "validation_loss" in e]
    if not evaluated:
        return None
    number = min(range(len(evaluated)), key=lambda k: evaluated[k]["validation_loss"])
    best = evaluated[number]
    return Best(best["validation_loss"], best["step"], len(evaluated) - 1 - number)


def trend(losses: Sequence[float]) -> float:
    """The slope in nats a step of the least-squares line through losses at 0, 1, 2, …

    It is 0 for fewer than two losses.
    """
    count = len(losses)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(losses) / count
    spread = sum((k - middle) ** 2 for k in range(count))
    return sum((k - middle) * (loss - mean) for k, loss in enumerate(losses)) / spread
