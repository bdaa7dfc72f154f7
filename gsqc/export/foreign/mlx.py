# SPDX-License-Identifier: Apache-2.0
"""read_mlx: an adapter that mlx-lm trained. It needs neither torch nor mlx.

mlx-lm computes y = W·x + scale · x · lora_a · lora_b (mlx_lm/tuner/lora.py), with lora_a [k, rank]
and lora_b [rank, n]. So A and B are their transposes. Which layers and linears have an adapter is
read from the names of the tensors.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from gsqc.errors import ExportError
from gsqc.export.foreign.find import FoundAdapter
from gsqc.export.foreign.floats import read_floats
from gsqc.export.foreign.pairs import MERGE, Floats, ForeignAdapter, Pair, is_scale, named, short

_NAME = re.compile(r"(.+)\.lora_([ab])")
_KNOWN = {"rank", "scale", "dropout", "keys", "alpha"}


def read_mlx(found: FoundAdapter, most_bytes: int) -> ForeignAdapter:
    """The adapter of a directory that mlx_lm.lora wrote.

    Raises ExportError with every problem of its settings, or with the first one of its weights.
    """
    scale, base_name, notes = _settings(found)
    halves: dict[str, dict[str, Floats]] = {}
    unknown = []
    for name, values in read_floats(found.weights, most_bytes).items():
        match = _NAME.fullmatch(name)
        if match and values.ndim == 2:
            halves.setdefault(match[1], {})[match[2]] = values.T
        else:
            unknown.append(name)
    unknown += [f"{m}.lora_{next(iter(h))}" for m, h in halves.items() if len(h) == 1]
    if unknown:
        raise ExportError(
            f"{found.weights} holds more than pairs of lora_a and lora_b of linears, "
            f"first {min(unknown)[:120]}",
            MERGE["mlx"],
        )
    pairs = {module: Pair(half["a"], half["b"], scale) for module, half in halves.items()}
    return ForeignAdapter("mlx", pairs, base_name, notes)


def _settings(found: FoundAdapter) -> tuple[Fraction, str, tuple[str, ...]]:
    """The scale, the base model's name, and sentences for the user."""
    config = found.config
    kind, lora = config.get("fine_tune_type", "lora"), config.get("lora_parameters")
    if kind != "lora":
        raise ExportError(
            f"{found.weights.parent} has the fine_tune_type {named(kind)}, and gsqc takes lora",
            MERGE["mlx"],
        )
    if not isinstance(lora, dict):
        raise ExportError(
            f"{found.weights.parent} has no lora_parameters in its settings",
            "give the directory that mlx_lm.lora wrote",
        )
    problems = [f"lora_parameters.{key[:60]} is not known" for key in lora.keys() - _KNOWN]
    if not is_scale(lora.get("scale")):
        problems.append(f"its scale is {short(lora.get('scale'))}, not a number above 0")
    if problems:
        raise ExportError(
            f"{found.weights.parent} does not fit the bundle: {'; '.join(sorted(problems))}",
            MERGE["mlx"],
        )
    name: Any = config.get("model")
    return Fraction(lora["scale"]), name if isinstance(name, str) else "", tuple(_notes(lora))


def _notes(lora: dict[str, Any]) -> list[str]:
    notes = []
    if lora.get("alpha") is not None:
        notes.append("its alpha is left out, for mlx-lm computes with the scale alone")
    if lora.get("dropout"):
        notes.append("it was trained with dropout, and gsqc trains without")
    return notes
