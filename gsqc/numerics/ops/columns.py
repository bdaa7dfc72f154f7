# SPDX-License-Identifier: Apache-2.0
"""columns: a part of the columns of rows, as q, k and v in the result of one fused projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.LAYOUT)
def columns(b: Builder, x: Row, *, start: int, count: int) -> Row:
    """x Row [..., n] with an exponent per row -> its columns [start, start + count), exact."""
    lead = x.shape[:-1]
    m = x.m.slice((*(0,) * len(lead), start), (*lead, count))
    return Row(m, x.e, x.bits)


def _zeros(b: Builder, x: Tensor, count: int) -> Tensor:
    """`count` columns of zeros beside x."""
    shape = (*x.shape[:-1], count)
    zeros = b.const(0, len(shape))
    for axis, size in enumerate(shape):
        ones = (1,) * len(shape)
        zeros = zeros | (b.iota((*ones[:axis], size, *ones[axis + 1 :]), axis) & 0)
    return zeros.cast(x.dtype)


@op(Kind.LAYOUT)
def spread_columns(b: Builder, x: Row, *, start: int, width: int) -> Row:
    """x Row [..., n] -> [..., width] with x from column `start` on, and zeros elsewhere."""
    after = width - start - x.shape[-1]
    parts = [x.m]
    if start:
        parts.insert(0, _zeros(b, x.m, start))
    if after:
        parts.append(_zeros(b, x.m, after))
    return Row(b.concat(parts, len(x.shape) - 1), x.e, x.bits)


@columns.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    width = g.shape(call.args[0])[-1]
    return [g.call(spread_columns, dy, start=call.attributes["start"], width=width)]


@cases(columns)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    x = random_row(rng, (7, 48), 16)
    for name, start, count in (("first", 0, 16), ("middle", 5, 17), ("last", 32, 16)):
        yield Case(name, [x], {"start": start, "count": count})
    yield Case("heads", [random_row(rng, (3, 7, 48), 24)], {"start": 16, "count": 16})


@cases(spread_columns)
def _spread_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, start in (("first", 0), ("middle", 5), ("last", 32)):
        yield Case(name, [random_row(rng, (7, 16), 24)], {"start": start, "width": 48})
    yield Case("heads", [random_row(rng, (3, 7, 16), 16)], {"start": 16, "width": 48})
