# SPDX-License-Identifier: Apache-2.0
"""The frozen weights of a bundle: codes of the blocks' weights, tables, vectors outside of blocks,
constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.models import FLOAT_KIND, WeightSource
from gsqc.models.codes import Codes, encode_row16
from gsqc.models.gguf_codes import base_codes
from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.passes.outline import Outline, Parameter, Storage

Array = npt.NDArray[Any]
KEEP_FILE_CODES = "gguf"
"""The value of --base that keeps the codes of a GGUF file."""


def _table_arrays(name: str, weight: Array) -> dict[str, Array]:
    """An embedding table [V, n] as GSE-8 along n, by our own quantise: one meaning."""
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
    """

    def __init__(self, weights: WeightSource, base: str) -> None:
        self.weights, self.base = weights, base

    def _codes(self, name: str, kind: str) -> Codes:
        if kind == "row16":
            return encode_row16(self.weights.float32(name))
        return base_codes(self.weights, name, kind)

    def kind_of(self, parameter: Parameter, names: Sequence[str]) -> str:
        """The kind of codes of a weight. Layers share code, so it is the same in all layers of a
        kind.
        """
        if parameter.storage is Storage.CODES_ROW:
            return "row16"
        if self.base != KEEP_FILE_CODES:
            return self.base
        kinds = {self.weights.code_kind(name) for name in names}
        return kinds.pop() if len(kinds) == 1 else FLOAT_KIND

    def codes_of(self, parameter: Parameter, names: Sequence[str]) -> Codes:
        """The codes of the weight in the first of these layers: their shapes are those of all."""
        return self._codes(names[0], self.kind_of(parameter, names))

    def code_kinds(self, outline: Outline) -> dict[str, str]:
        """The kind of codes of each weight, by its name in the first layer of its kind of block."""
        return {
            names[0]: self.kind_of(parameter, names) for parameter, names in _by_weight(outline)
        }

    def tensors(self, outline: Outline, constants: Mapping[str, Array]) -> dict[str, Array]:
        """All of base.safetensors; `constants` are the float tables of positions."""
        base: dict[str, Array] = {}
        for parameter, names in _by_weight(outline):
            kind = self.kind_of(parameter, names)
            for name in names:
                arrays = self._codes(name, kind).arrays
                base |= {f"{name}.{key}": array for key, array in arrays.items()}
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
