# SPDX-License-Identifier: Apache-2.0
"""accumulate: adapter gradients of single sequences join a running sum on a fixed-point grid.

The unit of the grid is 2^-34. A number on it is held in two limbs, high · 2^22 + low, with
0 ≤ low < 2^22. Each sequence's gradient is rounded once onto the grid. From there on sums are sums
of integers, so batches, their order, and workers cannot change a bit of them. A sequence adds less
than 2^24 to |high| (2^12 in value), so that 64 sequences fit int32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.linear import product
from gsqc.numerics.ops.primitives import (
    Scaled,
    constant_like,
    normalise,
    saturating_scale,
    scale_by_power,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op

GRID_FRACTION_BITS = 34
LIMB_BITS = 22
_LOW_MASK = 2**LIMB_BITS - 1
_HIGH_BITS = 24


def _to_grid(m: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """m · 2^e with |m| < 2^30 and an exponent per element -> (high, low), rounded half up.

    |high| < 2^24: it saturates.
    """
    n = (0 - GRID_FRACTION_BITS) - e
    on_grid = m.round_shift(n.clamp(0, 31))
    left = (0 - n).maximum(0)
    part = (LIMB_BITS - left).maximum(0)  # how many bits of the mantissa belong to the low limb
    high = saturating_scale(on_grid >> part, (LIMB_BITS - left).minimum(0), _HIGH_BITS)
    low = (on_grid & ((constant_like(m, 1) << part) - 1)) << left.minimum(LIMB_BITS)
    return high.clamp(1 - 2**_HIGH_BITS, 2**_HIGH_BITS - 1), low


def _added(m: Tensor, e: Tensor, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """Limbs with m · 2^e added, as `_to_grid` rounds it."""
    part_high, part_low = _to_grid(m, e)
    total = low + part_low
    return high + part_high + (total >> LIMB_BITS), total & _LOW_MASK


@op(Kind.ROW)
def accumulate_gradient(
    b: Builder,
    c: Tensor,
    row_e: Tensor,
    column_e: Tensor,
    high: Tensor,
    low: Tensor,
    *,
    offset: int,
) -> tuple[Tensor, Tensor]:
    """c int32 [R, C] with |c| < 2^30, limbs [R, C] -> limbs with c added.

    The exponent of c[r, k] is row_e[r, 1] + column_e[1, k] + offset.
    """
    return _added(c, column_e + (row_e + offset), high, low)


@op(Kind.ROW)
def accumulate_row(b: Builder, g: Row, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """g Row [R, C] with an exponent per row or per column, limbs [R, C] -> limbs with g added."""
    return _added(*widen(g), high, low)


@composite
def linear_accumulate(
    call: Calls, x: Row, w: Row, high: Tensor, low: Tensor, *, x_bits: int, w_bits: int
) -> tuple[Tensor, Tensor]:
    """x [M, K] and w [C, K] Row, limbs [M, C] -> limbs with x · wᵀ added.

    x and w are quantised to GSE-x_bits and GSE-w_bits.
    """
    c, row_e, column_e, offset = product(call, x, w, x_bits=x_bits, w_bits=w_bits)
    limbs: tuple[Tensor, Tensor] = call(
        accumulate_gradient, c, row_e, column_e, high, low, offset=offset
    )
    return limbs


def sum_row(high: Tensor, low: Tensor) -> Scaled:
    """Limbs [R, K] with |high| < 2^31 -> (m, e) of 30 bits, one exponent per row.

    Both limbs are rounded to 29 bits of the row's largest number. Below 2^28 units of the grid they
    are exact.
    """
    width = 32 - high.abs().reduce_max().clz()  # bits of the high limb, 0 to 31
    drop = (width - 7).maximum(0)  # of width + 22 bits, 29 are kept
    m = scale_by_power(high, drop - LIMB_BITS) + low.round_shift(drop)
    return normalise(m, drop - GRID_FRACTION_BITS, 30)


def mean_gradient(high: Tensor, low: Tensor, inverse_m: Tensor, inverse_e: Tensor) -> Scaled:
    """Limbs [R, K] times 1 / tokens -> (m, e) of 30 bits, one exponent per row.

    1 / tokens is a mantissa of 30 bits and an exponent, [1, 1] each. The sum is rounded to 30 bits,
    and then the product is.
    """
    m, e = sum_row(high, low)
    return normalise(m.mulr30(inverse_m), (e + 30) + inverse_e, 30)


def random_limbs(
    rng: np.random.Generator, shape: tuple[int, int], octaves: int = 24
) -> list[npt.NDArray[Any]]:
    """Test sums with high limbs of up to `octaves` bits.

    One row is zero, one holds small negative numbers, and one extremes.
    """
    high = rng.integers(-(2**octaves), 2**octaves, shape) >> rng.integers(
        0, octaves + 1, (shape[0], 1)
    )
    low = rng.integers(0, 2**LIMB_BITS, shape)
    if shape[0] > 3:
        high[0] = low[0] = 0
        high[1], low[1] = -1, 2**LIMB_BITS - rng.integers(1, 9, shape[1])
        high[2], low[2] = np.where(high[2] < 0, -(2**octaves), 2**octaves), 2**LIMB_BITS - 1
    return [high.astype(np.int32), low.astype(np.int32)]


@cases(accumulate_gradient)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape in (("usual", (6, 40)), ("ragged", (5, 19)), ("one", (1, 1))):
        c = rng.integers(-(2**30) + 1, 2**30, shape) >> rng.integers(0, 31, shape)
        c[0] = 0
        exponents = [
            rng.integers(-40, 5, s).astype(np.int32) for s in ((shape[0], 1), (1, shape[1]))
        ]
        limbs = random_limbs(rng, shape)
        yield Case(name, [c.astype(np.int32), *exponents, *limbs], {"offset": -15})
    c = np.where(rng.random((4, 64)) < 0.5, 1 - 2**30, 2**30 - 1).astype(np.int32)
    every = np.arange(-90, 38, 2, dtype=np.int32)[None]
    full = [np.full((4, 64), 2**30, np.int32), np.full((4, 64), 2**LIMB_BITS - 1, np.int32)]
    yield Case(
        "every exponent", [c, np.arange(4, dtype=np.int32)[:, None], every, *full], {"offset": 0}
    )
    least = [np.full((4, 1), -120, np.int32), np.full((1, 64), -120, np.int32)]
    yield Case("least exponents", [c, *least, *full], {"offset": -20})


@cases(accumulate_row)
def _row_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (("usual", (6, 40), 24), ("column", (6, 1), 30), ("row", (1, 19), 16)):
        yield Case(name, [random_row(rng, shape, bits), *random_limbs(rng, shape)])
    columns = random_row(rng, (6, 19), 30, column=True)
    yield Case("exponents of columns", [columns, *random_limbs(rng, (6, 19))])


@cases(linear_accumulate)
def _linear_cases(rng: np.random.Generator) -> Iterator[Case]:
    values = [
        random_row(rng, (5, 40), 16),
        random_row(rng, (7, 40), 24),
        *random_limbs(rng, (5, 7)),
    ]
    yield Case("ragged", values, {"x_bits": 8, "w_bits": 6})
