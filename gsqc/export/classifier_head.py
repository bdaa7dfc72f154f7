# SPDX-License-Identifier: Apache-2.0
"""saved_head: the head of a trained classifier as PEFT stores one, in modules_to_save.

PEFT trains the head of a classifier itself and stores its modules whole, under their own names:

base_model.model.bert.pooler.dense.weight, …bias      modules_to_save: pooler
base_model.model.classifier.weight, …bias             modules_to_save: classifier

Here the adapter of each of these linears is merged into its matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.export.adapter import encoder_modules
from gsqc.export.fixed_point import Float32
from gsqc.export.merge import MergedWeights


@dataclass(frozen=True)
class SavedHead:
    """The modules of a head, whole.

    modules  what PEFT calls them in modules_to_save
    tensors  all their parameters by Hugging Face's names
    """

    modules: tuple[str, ...]
    tensors: dict[str, Float32]


def saved_head(bundle: Bundle, weights: MergedWeights) -> SavedHead:
    """The head of a classifier with its adapter merged into it."""
    module: Any = weights.loaded.module
    encoder = f"{module.base_model_prefix}."
    places = dict.fromkeys(_place(m, encoder) for m in encoder_modules(bundle, in_head=True))
    inside = tuple(f"{place}." for place in places)
    names = [name for name in weights.shapes() if name.startswith(inside)]
    modules = tuple(place.removeprefix(encoder) for place in places)
    return SavedHead(modules, {name: weights.float32(name) for name in names})


def _place(linear: str, encoder: str) -> str:
    """The module around a linear of the head, which stands beside the encoder or its layers."""
    before = encoder if linear.startswith(encoder) else ""
    return before + linear.removeprefix(before).split(".")[0]
