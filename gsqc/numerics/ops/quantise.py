# SPDX-License-Identifier: Apache-2.0
"""quantise: a Row becomes GSE-b along its last axis, the format of every matmul's operands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import GROUP, LEAST_EXPONENT, Gse, Row, largest
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import row_exponent, scale_by_power
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def _pad(x: Tensor, count: int) -> Tensor:
    """x [..., n] with `count` zeros after its last column."""
    b, rank = x.builder, len(x.shape)
    first = x.slice((0,) * rank, (*x.shape[:-1], 1))
    zeros = (first & 0) | (b.iota((*(1,) * (rank - 1), count), rank - 1) & 0)
    return b.concat([x, zeros], rank - 1)


@op(Kind.ROW)
def quantise(b: Builder, x: Row, *, bits: int) -> Gse:
    """x Row-w [..., n] -> GSE-bits [..., n padded to a multiple of 32].

    x has an exponent per row or per column. The exponent of a group of 32 is the least at which its
    largest mantissa fits `bits` bits. A group further than 16 - bits octaves below the largest of
    its row keeps that distance, and its mantissas are smaller. Each number is rounded once, half
    up, and clamped to ±(2^(bits-1) - 1). A zero row has LEAST_EXPONENT. GSQ-Tuning (arXiv
    2502.12913), section 3.1. The window of 16 - bits octaves is ours: it makes aligned mantissas
    fit int16.
    """
    m, n = x.mantissa, x.shape[-1]
    lead, padding = x.shape[:-1], -n % GROUP
    e = x.e
    if padding:
        m = _pad(m, padding)
        e = e if row_exponent(x) else _pad(e, padding)
    groups = (n + padding) // GROUP
    m = m.reshape(*lead, groups, GROUP)
    if row_exponent(x):
        e = e.reshape(*e.shape[:-1], 1, 1)
        top = m.abs().reduce_max()
        octave = where(top.greater(0), (32 - top.clz()) + e, LEAST_EXPONENT)
    else:
        e = e.reshape(*e.shape[:-1], groups, GROUP)
        size = m.abs()
        octave = where(size.greater(0), (32 - size.clz()) + e, LEAST_EXPONENT).reduce_max()
    group_exponent = (octave - (bits - 1)).maximum(LEAST_EXPONENT)
    shared = group_exponent.reduce_max(-2)
    distance = (shared - group_exponent).minimum(16 - bits)
    limit = largest(bits)
    mantissa = scale_by_power(m, ((shared - distance) - e).clamp(-31, 31)).clamp(-limit, limit)
    return Gse(
        mantissa.reshape(*lead, groups * GROUP).cast("int8"),
        distance.reshape(*lead, groups).cast("int8"),
        shared.reshape(*lead, 1),
        bits,
    )


def random_row(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, *, column: bool = False
) -> Row:
    """A test value with mantissas over many octaves.

    One row is zero, one has an outlier, and one holds extremes. With `column` the exponents are one
    per column.
    """
    limit = largest(bits)
    m = rng.integers(-limit, limit + 1, shape) >> rng.integers(0, bits - 1, shape)
    rows = m.reshape(-1, shape[-1])
    if len(rows) > 3:
        rows[0] = 0
        rows[1] >>= min(bits - 2, 12)
        rows[1, -1] = -limit
        rows[2] = np.where(rows[2] < 0, -limit, limit)
    e_shape = (*shape[:-2], 1, shape[-1]) if column else (*shape[:-1], 1)
    e = rng.integers(-40, 10, e_shape)
    return Row(m.astype(np.int16 if bits <= 16 else np.int32), e.astype(np.int32), bits)


@cases(quantise)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits in (5, 6, 7, 8):
        yield Case(f"gse{bits} from row-16", [random_row(rng, (9, 96), 16)], {"bits": bits})
    yield Case("row-24", [random_row(rng, (5, 64), 24)], {"bits": 8})
    yield Case("row-30 to 4 bits", [random_row(rng, (6, 64), 30)], {"bits": 4})
    yield Case("exponents per column", [random_row(rng, (6, 64), 16, column=True)], {"bits": 8})
    yield Case("columns, ragged", [random_row(rng, (2, 5, 37), 24, column=True)], {"bits": 8})
    yield Case("ragged", [random_row(rng, (7, 50), 16)], {"bits": 8})
    yield Case("rank 16", [random_row(rng, (4, 16), 24)], {"bits": 6})
    yield Case("one element", [random_row(rng, (1, 1), 16)], {"bits": 8})
    broadcast = Row(
        random_row(rng, (3, 4, 32), 16).m, rng.integers(-9, 9, (1, 4, 1)).astype(np.int32), 16
    )
    yield Case("broadcast exponents", [broadcast], {"bits": 8})
    yield Case(
        "least exponent",
        [Row(np.ones((2, 32), np.int16), np.full((2, 1), -125, np.int32), 16)],
        {"bits": 8},
    )
