# SPDX-License-Identifier: Apache-2.0
"""The matrix as a Markdown table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.architectures.stages import Row

_FURTHER = {
    "digests": "digests",
    "eval": "eval − float",
    "decoder": "decoder's logits",
    "train": "15 steps − float",
    "import": "import",
    "peft": "PEFT",
    "merged": "merged",
    "gguf": "GGUF − float",
    "gguf_adapter": "GGUF adapter",
}
"""Columns of the stages behind a bundle, by the key of what they found."""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:+.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _first_sentence(text: str) -> str:
    """The sentence of an error and what it lists, in one line."""
    kept = [line.strip() for line in text.splitlines() if not line.startswith("hint: ")]
    return "; ".join(line for line in kept if line)[:300]


def table(rows: Sequence[Row]) -> str:
    """One line for each row, and a line of counts."""
    columns = [key for key in _FURTHER if any(key in row.further for row in rows)]
    head = ["model", "result", "logits", *(_FURTHER[key] for key in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        result = row.state if row.state == "captured" else f"{row.state}: "
        said = row.further.get("error", "") or row.error
        result += f" {_cell(_first_sentence(said))}" if said else ""
        logits = "" if row.logits is None else f"{row.logits:.0e}"
        further = [_cell(row.further.get(key)) for key in columns]
        lines.append(_line([row.name, " ".join(result.split()), logits, *further]))
    counts = Counter(row.state for row in rows)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    right = sum(row.is_right for row in rows)
    return "\n".join([*lines, "", f"{len(rows)} rows: {told}. Logits right: {right}.", ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
