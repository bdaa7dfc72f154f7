# SPDX-License-Identifier: Apache-2.0
"""The frozen weights of a bundle: codes of the blocks' weights, tables, vectors outside of blocks,
constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.base import FILE_CODES, LOSS_UNIT, VECTOR_KIND, in_first_layer
from gsqc.models import WeightSource
from gsqc.models.base_codes import base_codes, joined_kind
from gsqc.models.codes import Codes, encode_row16, require_finite
from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.passes.outline import Outline, Parameter, Storage

Array = npt.NDArray[Any]


def _table_arrays(name: str, weight: Array) -> dict[str, Array]:
    """An embedding table [V, n] as GSE-8 along n, by our own quantise: one meaning."""
    require_finite(weight, name)
    fraction, exponent = np.frexp(np.abs(weight).max(axis=1, keepdims=True).astype(np.float64))
    exponent = np.where(fraction > 0, exponent - 29, 0).astype(np.int32)
    m = np.rint(np.ldexp(weight.astype(np.float64), -exponent)).astype(np.int32)
    parts: list[Gse] = [
        evaluate(quantise, [Row(m[k : k + 4096], exponent[k : k + 4096], 30)], {"bits": 8})
        for k in range(0, len(m), 4096)
    ]
    return {
        f"{name}.{field}": np.concatenate([getattr(p, field) for p in parts])
        for field in ("m", "d", "e")
    }


def _row_arrays(name: str, weight: Array) -> dict[str, Array]:
    """A vector as Row-16."""
    codes = encode_row16(weight)
    row = evaluate(OPS[codes.dequantise_op], list(codes.arrays.values()), codes.attributes)
    return {f"{name}.m": row.m, f"{name}.e": row.e}


class FrozenWeights:
    """A model's weights as a bundle stores them: in codes of the kind `base`, or those of the
    model's own file.

    losses  what the weights that `tensors` coded have lost, in millionths, by their names
    """

    def __init__(self, weights: WeightSource, base: str) -> None:
        self.weights, self.base = weights, base
        self.losses: dict[str, int] = {}
        self._kinds: dict[str, str] = {}

    def _codes(self, name: str, kind: str) -> Codes:
        if kind == VECTOR_KIND:
            return encode_row16(self.weights.float32(name))
        return base_codes(self.weights, name, kind)

    def kind_of(self, parameter: Parameter, name: str) -> str:
        """The kind of codes of a weight. Layers share code, so it is the same in all layers: where
        their formats differ, one that holds all of them.
        """
        if parameter.storage is Storage.CODES_ROW:
            return VECTOR_KIND
        if self.base != FILE_CODES:
            return self.base
        first = in_first_layer(name)
        if first not in self._kinds:
            same = [n for n in self.weights.names() if in_first_layer(n) == first]
            self._kinds[first] = joined_kind(map(self.weights.code_kind, same))
        return self._kinds[first]

    def codes_of(self, parameter: Parameter, names: Sequence[str]) -> Codes:
        """The codes of the weight in the first of these layers: their shapes are those of all."""
        return self._codes(names[0], self.kind_of(parameter, names[0]))

    def code_kinds(self, outline: Outline) -> dict[str, str]:
        """The kind of codes of each weight, by the name that it has, or would have, in the first
        layer.
        """
        return {
            in_first_layer(names[0]): self.kind_of(parameter, names[0])
            for parameter, names in _by_weight(outline)
        }

    def tensors(self, outline: Outline, constants: Mapping[str, Array]) -> dict[str, Array]:
        """All of base.safetensors; `constants` are the float tables of positions."""
        base: dict[str, Array] = {}
        for parameter, names in _by_weight(outline):
            kind = self.kind_of(parameter, names[0])
            for name in names:
                codes = self._codes(name, kind)
                base |= {f"{name}.{key}": array for key, array in codes.arrays.items()}
                if codes.lost:
                    self.losses[name] = round(codes.lost * LOSS_UNIT)
        for parameter in (*outline.embed.parameters, *outline.head.parameters):
            if f"{parameter.name}.m" not in base:  # a tied table is stored once
                store = _table_arrays if parameter.storage is Storage.TABLE else _row_arrays
                base |= store(parameter.name, self.weights.float32(parameter.name))
        for name, table in constants.items():
            base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
        return base


def _by_weight(outline: Outline) -> list[tuple[Parameter, list[str]]]:
    """Each weight of the blocks, with its names in all layers of its kind."""
    found = []
    for kind, part in outline.kinds.items():
        layers = [outline.names[layer] for layer in outline.layers_of(kind)]
        found += [(p, [names[k] for names in layers]) for k, p in enumerate(part.parameters)]
    return found
