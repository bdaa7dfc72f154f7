# SPDX-License-Identifier: Apache-2.0
"""The frozen weights of a bundle: codes of the blocks' weights, tables, vectors outside of blocks,
constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.base import FILE_CODES, LOSS_UNIT, VECTOR_KIND, in_first_layer
from gsqc.bundle.tensor_file import LateTensor
from gsqc.models import WeightSource
from gsqc.models.base_codes import base_codes, joined_kind
from gsqc.models.codes import Codes, encode_row16, require_finite
from gsqc.models.low_rank import low_rank_arrays, product
from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.passes.outline import Outline, Parameter, Storage

Array = npt.NDArray[Any]
_ROWS = 4096
"""Rows of a table that are coded at once."""


def _table_arrays(weight: Array) -> dict[str, Array]:
    """An embedding table [V, n] as GSE-8 along n, by our own quantise: one meaning."""
    fraction, exponent = np.frexp(np.abs(weight).max(axis=1, keepdims=True).astype(np.float64))
    exponent = np.where(fraction > 0, exponent - 29, 0).astype(np.int32)
    m = np.rint(np.ldexp(weight.astype(np.float64), -exponent)).astype(np.int32)
    part: Gse = evaluate(quantise, [Row(m, exponent, 30)], {"bits": 8})
    return {key: getattr(part, key) for key in ("m", "d", "e")}


def _row_arrays(weight: Array) -> dict[str, Array]:
    """A vector as Row-16."""
    codes = encode_row16(weight)
    row = evaluate(OPS[codes.dequantise_op], list(codes.arrays.values()), codes.attributes)
    return {"m": row.m, "e": row.e}


def _table(name: str, weight: Array) -> dict[str, Array]:
    """The arrays of a table, made some rows at a time."""
    parts = []
    for start in range(0, len(weight), _ROWS):
        rows = weight[start : start + _ROWS]
        require_finite(rows, name)
        parts.append(_table_arrays(rows))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


class FrozenWeights:
    """A model's weights as a bundle stores them: in codes of the kind `base`, or those of the
    model's own file.
    """

    def __init__(self, weights: WeightSource, base: str) -> None:
        self.weights, self.base = weights, base
        self._losses: dict[str, int] = {}
        self._ranks: dict[str, int] = {}
        self._corrections: dict[str, dict[str, Array]] = {}
        self._kinds: dict[str, str] = {}
        self._last: tuple[str, dict[str, Array]] | None = None

    def correct(self, ranks: Mapping[str, int]) -> None:
        """Correct weights by U·V (`gsqc.models.low_rank`). The ranks are by the weights' names."""
        self._ranks = dict(ranks)

    @property
    def losses(self) -> dict[str, int]:
        """What weights have lost that were coded, in millionths, by their names."""
        return dict(sorted(self._losses.items()))

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

    def trained_on(self, parameter: Parameter, name: str) -> Array:
        """A weight as its codes have it, corrected or not, float32: what training reads."""
        return self._trained(name, self.kind_of(parameter, name))

    def correction(self, parameter: Parameter, name: str) -> dict[str, Array]:
        """The arrays of U and V for a weight that is corrected."""
        return self._correction(name, self._codes(name, self.kind_of(parameter, name)))

    def _correction(self, name: str, codes: Codes) -> dict[str, Array]:
        if name not in self._corrections:
            error = self.weights.float32(name) - codes.float32()
            self._corrections[name] = low_rank_arrays(error, self._ranks[name])
        return self._corrections[name]

    def _trained(self, name: str, kind: str) -> Array:
        codes = self._codes(name, kind)
        w = codes.float32()
        if name not in self._ranks:
            return w
        return (w + product(self._correction(name, codes))).astype(np.float32)

    def code_kinds(self, outline: Outline) -> dict[str, str]:
        """The kind of codes of each weight, by the name that it has, or would have, in the first
        layer.
        """
        return {
            in_first_layer(names[0]): self.kind_of(parameter, names[0])
            for parameter, names in _by_weight(outline)
        }

    def tensors(
        self, outline: Outline, constants: Mapping[str, Array]
    ) -> dict[str, Array | LateTensor]:
        """All of base.safetensors. A weight is read and coded when its arrays are written.

        `constants` are the float tables of positions.
        """
        base: dict[str, Array | LateTensor] = {}
        for parameter, names in _by_weight(outline):
            kind = self.kind_of(parameter, names[0])
            first = self._codes(names[0], kind).arrays
            for name in names:
                base |= self._late(name, first, partial(self._coded, kind=kind))
        for parameter in (*outline.embed.parameters, *outline.head.parameters):
            if f"{parameter.name}.m" in base:  # a tied table is stored once
                continue
            is_table = parameter.storage is Storage.TABLE
            row = (_table_arrays if is_table else _row_arrays)(np.zeros((1, parameter.shape[-1])))
            rows = parameter.shape[0] if len(parameter.shape) > 1 else 1
            like = {key: np.broadcast_to(a, (rows, *a.shape[1:])) for key, a in row.items()}
            base |= self._late(parameter.name, like, self._table if is_table else self._row)
        for name, table in constants.items():
            base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
        return base

    def _late(
        self, name: str, like: Mapping[str, Array], make: Callable[[str], dict[str, Array]]
    ) -> dict[str, LateTensor]:
        """The arrays that `make` makes of a weight. `like` has arrays of their types and shapes."""

        def one(key: str) -> Array:
            if self._last is None or self._last[0] != name:
                self._last = name, make(name)  # its other arrays are written next
            return self._last[1][key]

        return {
            f"{name}.{k}": LateTensor(a.dtype, a.shape, partial(one, k)) for k, a in like.items()
        }

    def _coded(self, name: str, kind: str) -> dict[str, Array]:
        codes = self._codes(name, kind)
        lost = self._left_lost(name, kind) if name in self._ranks else codes.lost
        if lost:
            self._losses[name] = round(lost * LOSS_UNIT)
        return codes.arrays

    def _left_lost(self, name: str, kind: str) -> float:
        """As `Codes.lost`, of a weight that is corrected."""
        exact = self.weights.float32(name).astype(np.float64)
        power = np.square(exact).sum()
        left = np.square(self._trained(name, kind) - exact).sum()
        return float(np.sqrt(left / power)) if power else 0.0

    def _row(self, name: str) -> dict[str, Array]:
        return _row_arrays(self.weights.float32(name))

    def _table(self, name: str) -> dict[str, Array]:
        return _table(name, self.weights.float32(name))


def _by_weight(outline: Outline) -> list[tuple[Parameter, list[str]]]:
    """Each weight of the blocks, with its names in all layers of its kind."""
    found = []
    for kind, part in outline.kinds.items():
        layers = [outline.names[layer] for layer in outline.layers_of(kind)]
        found += [(p, [names[k] for names in layers]) for k, p in enumerate(part.parameters)]
    return found
