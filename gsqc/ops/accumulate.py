# SPDX-License-Identifier: Apache-2.0
"""accumulate: the batch's gradient as exact integers on a fixed-point grid.

Each sequence's adapter gradient is rounded once onto a grid of 2^-34 and kept in two int32 limbs:
value = high · 2^-12 + low · 2^-34, 0 ≤ low < 2^22. Sums of limbs are exact, so micro-batches, padding and the order of the
sequences cannot change a bit of the sum (design.md, "Batches").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.formats import LEAST_EXPONENT, Row
from gsqc.operators.builder import Builder, Tensor, where
from gsqc.ops.linear import gse_matmul, product_exponent
from gsqc.ops.primitives import add_scaled, normalise, saturating_scale
from gsqc.ops.quantise import quantise, random_row
from gsqc.ops.registry import Case, Kind, cases, op

UNIT_BITS = 34
LOW_BITS = 22
HIGH_LIMIT_BITS = 24
"""One sequence adds at most ±2^24 to `high`, so that 64 sequences fit int32."""

MAXIMUM_SEQUENCES = 64


@op(Kind.ROW)
def accumulate_gradient(
    b: Builder, c: Tensor, row_e: Tensor, column_e: Tensor, high: Tensor, low: Tensor, *, offset: int
) -> tuple[Tensor, Tensor]:
    """A matmul's result c int32 [R, C], |c| < 2^30, at exponent row_e [R, 1] + column_e [1, C] + offset, rounded half up
    onto the grid and added to high, low int32 [R, C]. A gradient beyond ±4096 saturates.
    """
    n = (column_e + (row_e + (offset + UNIT_BITS))).clamp(-31, 62)  # c · 2^n in units of the grid
    right = (0 - n).clamp(0, 31)
    small = c.round_shift(right)
    left = n.clamp(0, LOW_BITS)
    whole = n - left  # what is left to shift once all low bits are used
    rest = LOW_BITS - left
    grid_high = saturating_scale(small >> rest, 0 - whole.clamp(0, 40), HIGH_LIMIT_BITS)
    keep = (b.const(1, 2) << rest) - 1
    grid_low = where(whole.greater(0), 0, (small & keep) << left)
    total = low + grid_low
    return high + grid_high + (total >> LOW_BITS), total & ((1 << LOW_BITS) - 1)


@op(Kind.ROW)
def linear_accumulate(
    b: Builder, x: Row, w: Row, high: Tensor, low: Tensor, *, x_bits: int, w_bits: int
) -> tuple[Tensor, Tensor]:
    """x [R, K] · w [C, K]ᵀ added to the running gradient: the graph-level form that expand_linear replaces."""
    qx, qw = quantise.function(b, x, bits=x_bits), quantise.function(b, w, bits=w_bits)
    offset = product_exponent(x_bits, w_bits, qx.shape[-1])
    c = gse_matmul.function(b, qx, qw)
    limbs: tuple[Tensor, Tensor] = accumulate_gradient.function(
        b, c, qx.e, qw.e.reshape(1, qw.e.shape[0]), high, low, offset=offset
    )
    return limbs


def mean_gradient(high: Tensor, low: Tensor, inverse_m: Tensor, inverse_e: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The grid's value times the inverse token count (15-bit mantissa, exponent) -> (m, e), one exponent per row.

    Both limbs are normalised first, so that small gradients keep their bits.
    """
    upper, upper_e = normalise(high, high.builder.const(0, 2) + (LOW_BITS - UNIT_BITS), 30)
    lower, lower_e = normalise(low, low.builder.const(0, 2) - UNIT_BITS, 30)
    m, e = normalise(*add_scaled(upper, upper_e, lower, lower_e), 30)
    return normalise(m.mulr15(inverse_m), e + inverse_e + 15, bits)


@cases(accumulate_gradient)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, octave in (("usual", (9, 40), -40), ("large", (5, 37), -8), ("tiny", (4, 16), -70)):
        c = rng.integers(-(2**30) + 1, 2**30, shape) >> rng.integers(0, 31, shape)
        row_e = rng.integers(octave, octave + 8, (shape[0], 1))
        column_e = rng.integers(-4, 4, (1, shape[1]))
        high = rng.integers(-(2**29), 2**29, shape)
        low = rng.integers(0, 2**22, shape)
        yield Case(name, [a.astype(np.int32) for a in (c, row_e, column_e, high, low)], {"offset": -7})


@cases(linear_accumulate)
def _linear_cases(rng: np.random.Generator) -> Iterator[Case]:
    zero = np.zeros((5, 7), np.int32)
    values = [random_row(rng, (5, 40), 16), random_row(rng, (7, 40), 24), zero, zero]
    yield Case("ragged", values, {"x_bits": 8, "w_bits": 6})


assert LEAST_EXPONENT + UNIT_BITS < 0
