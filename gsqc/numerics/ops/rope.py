# SPDX-License-Identifier: Apache-2.0
"""rope: rotary position embedding, on halves of a head. Su et al. 2021, "RoFormer", section 3.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import narrow16, normalise, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

TABLE_FRACTION_BITS = 29
"""Of cos and sin. The result is off by 0.5 ulp. With 14 bits it would be 1.34."""


@op(Kind.ROW)
def rope(b: Builder, x: Row, cos: Tensor, sin: Tensor, *, inverse: bool) -> Row:
    """x [H, T, D] Row, cos and sin int32 Q29 [1, T, W/2] -> x rotated, Row-16 [H, T, D].

    y = (a·cos - c·sin, c·cos + a·sin) with the halves x = (a, c) of the first W columns. The other
    columns stay, with one rounding to the row's new exponent. `inverse` rotates by the negative
    angle.
    """
    m, e = narrow16(x)
    *lead, width = x.shape
    half = cos.shape[-1]
    start = (0,) * len(lead)
    a, c = m.slice((*start, 0), (*lead, half)), m.slice((*start, half), (*lead, half))
    a_cos, c_sin, c_cos, a_sin = cos.mulr15(a), sin.mulr15(c), cos.mulr15(c), sin.mulr15(a)
    first = a_cos + c_sin if inverse else a_cos - c_sin
    second = c_cos - a_sin if inverse else c_cos + a_sin
    parts = [first, second]
    if width > 2 * half:
        rest = m.slice((*start, 2 * half), (*lead, width - 2 * half))
        parts.append(rest << (TABLE_FRACTION_BITS - 15))
    joined = b.concat(parts, len(lead))
    return store_row(*normalise(joined, e + (15 - TABLE_FRACTION_BITS), 16), 16)


@rope.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """A rotation is orthogonal, so its gradient is the inverse rotation."""
    _, cos, sin = call.args
    return [g.call(rope, dy, cos, sin, inverse=not call.attributes["inverse"]), None, None]


@cases(rope)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, heads, tokens, width, half, bits in (
        ("heads", 3, 9, 64, 32, 16),
        ("ragged", 2, 5, 12, 6, 24),
        ("a part", 2, 5, 16, 5, 16),
    ):
        angle = rng.uniform(0, 7, (1, tokens, half))
        tables = [
            np.round(f(angle) * 2**TABLE_FRACTION_BITS).astype(np.int32) for f in (np.cos, np.sin)
        ]
        x = random_row(rng, (heads, tokens, width), bits)
        for inverse in (False, True):
            yield Case(f"{name} inverse={inverse}", [x, *tables], {"inverse": inverse})
        shared = Row(x.m, rng.integers(-9, 5, (1, tokens, 1)).astype(np.int32), bits)
        yield Case(f"{name}, exponent per token", [shared, *tables], {"inverse": False})
