# SPDX-License-Identifier: Apache-2.0
"""Where the list of `gsqc models` and the matrix disagree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from benchmarks.architectures.stages import Row
from gsqc.models.families import ENCODERS, FAMILIES, ModelFamily, Proof

_MISSING = re.compile(r"gsqc does not compile: ([^\n]+)")


def missing(row: Row) -> list[str]:
    """The constructs that a refusal names, without operators and without classes in brackets."""
    found = ", ".join(_MISSING.findall(row.error))
    joined = re.sub(r"\[[^]]*\]", "", found).replace("fused q, k and v", "fused q; k and v")
    parts = [re.sub(r" \(\w+\)$", "", part) for part in joined.split(", ")]
    return [
        part.replace("fused q; k and v", "fused q, k and v") for part in parts if _is_name(part)
    ]


def _is_name(part: str) -> bool:
    return re.match(r"(?!aten\.|gsqc\.)\w", part) is not None


def differences(rows: Iterable[Row]) -> list[str]:
    """A line for each disagreement. Families that have no rows are not looked at."""
    by_kind: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_kind.setdefault((row.task, row.type), []).append(row)
    # A BERT that is to make text is another entry than one that classifies.
    known = {
        (task, family.type): family
        for task, families in (("generate", FAMILIES), ("classify", ENCODERS))
        for family in families
    }
    lines = [f"{kind[1]} is not listed" for kind in by_kind if kind not in known]
    for kind, family in known.items():
        lines += _of_family(family, by_kind[kind]) if kind in by_kind else []
    return lines


def _of_family(family: ModelFamily, rows: Sequence[Row]) -> list[str]:
    captured = [row for row in rows if row.state == "captured"]
    if not family.compiles and captured:
        return [f"{family.type} is listed as refused, and {captured[0].name} is captured"]
    if family.compiles and not captured:
        return [
            f"{family.type} is listed as compiled, and refused: {rows[0].error.split(chr(10))[0]}"
        ]
    if family.compiles:
        return _of_bundles(family, captured)
    # A refusal of attention comes before all others, so more may be listed than is found.
    new = [part for part in missing(rows[0]) if part not in family.note]
    return [f"{family.type} also lacks {', '.join(new)}"] if new else []


def _of_bundles(family: ModelFamily, rows: Sequence[Row]) -> list[str]:
    """What a claim of a training with random weights rests on, if bundles were made."""
    if family.proof is not Proof.RANDOM:
        return []
    wrong = {
        f"{row.name}: {key} is {row.further[key]}"
        for row in rows
        for key in ("compile", "digests", "eval", "train", "peft", "merged")
        if str(row.further.get(key, "")).startswith(("refused", "failed", "differ"))
    }
    return sorted(wrong)
