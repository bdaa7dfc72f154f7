# SPDX-License-Identifier: Apache-2.0
"""pairs_to_halves and back: some models rotate neighbouring columns, and `rope` rotates halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def _reordered(b: Builder, x: Row, width: int, split: tuple[int, int]) -> Row:
    """The first `width` columns as a matrix of the shape `split`, transposed. The rest stays."""
    heads, tokens, columns = x.shape
    first = x.m.slice((0, 0, 0), (heads, tokens, width))
    moved = first.reshape(heads, tokens, *split).transpose(0, 1, 3, 2)
    m: Tensor = moved.reshape(heads, tokens, width)
    if width < columns:
        rest = x.m.slice((0, 0, width), (heads, tokens, columns - width))
        m = b.concat([m, rest], 2)
    return Row(m, x.e, x.bits)


@op(Kind.LAYOUT)
def pairs_to_halves(b: Builder, x: Row, *, width: int) -> Row:
    """x Row [H, T, D]: column 2j goes to j, and 2j + 1 to j + width / 2, for both below width."""
    return _reordered(b, x, width, (width // 2, 2))


@op(Kind.LAYOUT)
def halves_to_pairs(b: Builder, x: Row, *, width: int) -> Row:
    """x Row [H, T, D] in the order that pairs_to_halves gives -> in the order before it."""
    return _reordered(b, x, width, (2, width // 2))


@pairs_to_halves.define_gradient
def _halves_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(halves_to_pairs, dy, **call.attributes)]


@halves_to_pairs.define_gradient
def _pairs_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(pairs_to_halves, dy, **call.attributes)]


@cases(pairs_to_halves)
@cases(halves_to_pairs)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, width, bits in (("all columns", 16, 16), ("a part", 10, 24)):
        yield Case(name, [random_row(rng, (3, 5, 16), bits)], {"width": width})
