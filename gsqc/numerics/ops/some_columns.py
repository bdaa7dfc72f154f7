# SPDX-License-Identifier: Apache-2.0
"""take_columns: chosen columns of rows, and their gradient put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

Indices = npt.NDArray[np.int32]


def places_of(index: Indices, columns: int) -> Indices:
    """Where each of `columns` columns lies in `index`, or len(index) if it is not there: int32."""
    places = np.full(columns, len(index), np.int32)
    places[index] = np.arange(len(index), dtype=np.int32)
    return places


@op(Kind.LAYOUT)
def take_columns(b: Builder, x: Row, index: Tensor, places: Tensor) -> Row:
    """x [T, n] Row, index int32 [r] in [0, n) -> its columns `index`, [T, r]. Exact.

    places  as `places_of` makes them of the index: the gradient goes by them
    """
    return Row(b.gather(x.m.transpose(1, 0), index).transpose(1, 0), x.e, x.bits)


@op(Kind.LAYOUT)
def put_columns(b: Builder, x: Row, places: Tensor) -> Row:
    """x [T, r] Row, places int32 [n] in [0, r] -> [T, n]: column places[j] of x, or 0 where that
    is r. Exact.
    """
    columns = x.mantissa.transpose(1, 0)
    zero = columns.slice((0, 0), (1, x.shape[0])) & 0
    m = b.gather(b.concat([columns, zero], 0), places).transpose(1, 0)
    return Row(m.cast(x.m.dtype), x.e, x.bits)


@take_columns.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(put_columns, dy, call.args[2]), None, None]


_INDEX = np.array([3, 0, 36], np.int32)


@cases(take_columns)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("some", [random_row(rng, (5, 37), 16), _INDEX, places_of(_INDEX, 37)])
    yield Case("wide", [random_row(rng, (4, 37), 24), _INDEX, places_of(_INDEX, 37)])


@cases(put_columns)
def _put_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("some", [random_row(rng, (5, 3), 24), places_of(_INDEX, 37)])
    yield Case("narrow", [random_row(rng, (5, 3), 16), places_of(_INDEX, 37)])
