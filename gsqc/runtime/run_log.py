# SPDX-License-Identifier: Apache-2.0
"""The lines of log.jsonl, by the letter: a stranger or a crash may have written anything."""

from __future__ import annotations

import json
import math
from typing import Any

from gsqc.limits import MAXIMUM_STEPS

MAXIMUM_NUMBER = 1e18
"""No measure of a run is larger. Larger ones would not fit what is computed with them."""
_STEP = ("loss", "tokens_per_second", "peak_rss_bytes")
"""Numbers of a line whose step was trained. A digest belongs to them."""
_OTHERS = ("learning_rate", "tokens", "gradient_norm", "validation_loss", "validation_tokens")
NUMBERS = (*_STEP, *_OTHERS)


def log_entry(line: str) -> dict[str, Any] | None:
    """A line as a dict, or None if it is not a step's, or if a field has the wrong type."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _fits(entry) else None


def _fits(entry: dict[str, Any]) -> bool:
    step = entry.get("step")
    if type(step) is not int or not 0 <= step <= MAXIMUM_STEPS:
        return False
    if not all(is_number(entry[name]) for name in NUMBERS if name in entry):
        return False
    if "loss" in entry and not all(name in entry for name in (*_STEP, "digest")):
        return False
    return isinstance(entry.get("digest", ""), str) and isinstance(entry.get("best", False), bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that can be computed with and drawn.

    The size is checked first, because an integer may be too large for a float.
    """
    return type(value) in (int, float) and abs(value) < MAXIMUM_NUMBER and math.isfinite(value)
