# SPDX-License-Identifier: Apache-2.0
"""The form in which every reader gives an adapter: A, B and a scale for each linear."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy.typing as npt

Floats = npt.NDArray[Any]
_LARGEST_SCALE = 1 << 24

_MERGE = "merge it into its model with {}, compile the merged model, and begin a new adapter"
MERGE = {
    "peft": _MERGE.format("PEFT's merge_and_unload()"),
    "mlx": _MERGE.format("mlx_lm.fuse"),
    "gguf": _MERGE.format("llama.cpp's llama-export-lora"),
}
"""The hint for what B·A alone cannot say, by the kind of adapter."""


@dataclass(frozen=True)
class Pair:
    """What an adapter adds to a linear's W [n, k]: scale · B·A.

    a      floats [rank, k]
    b      floats [n, rank]
    scale  above 0
    """

    a: Floats
    b: Floats
    scale: Fraction


@dataclass(frozen=True)
class ForeignAdapter:
    """An adapter as its files have it.

    kind       "peft", "mlx" or "gguf"
    pairs      by the linear's name in Hugging Face's model. A linear that the bundle's adapter
               does not have may keep the name that the file gives it.
    base_name  the base model that the adapter names, or nothing
    notes      sentences for the user
    """

    kind: str
    pairs: dict[str, Pair]
    base_name: str
    notes: tuple[str, ...] = ()


def is_scale(value: Any) -> bool:
    """Whether a value of a settings file can be an alpha or a scale."""
    return type(value) in (int, float) and 0 < value <= _LARGEST_SCALE


def short(value: Any) -> str:
    """A value of a settings file for an error's text, cut to 60 signs."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def named(value: Any) -> str:
    """A name from a settings file for an error's text, cut to 200 signs."""
    return value[:200] if isinstance(value, str) else short(value)
