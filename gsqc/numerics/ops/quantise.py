# SPDX-License-Identifier: Apache-2.0
"""quantise: a Row becomes GSE-b along its last axis, the format of every matmul's operands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import (
    GROUP,
    LEAST_EXPONENT,
    SCALES,
    WINDOW,
    Gse,
    Row,
    largest,
    row_dtype,
)
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import Scaled, normalise_mixed, row_exponent, scale_by_power
from gsqc.numerics.ops.registry import Case, Kind, cases, op

ROTATED_BITS = 24
"""A row has no more bits when it is rotated, which adds five: all of it stays below 2^28."""
MOST_SHIFT = 7
"""A Row-16 that is shifted up by no more keeps all its bits in ROTATED_BITS. It is a mask too."""


def whole_groups(x: Tensor) -> Tensor:
    """x [..., n] with zeros after its last column, up to a multiple of 32."""
    b, rank, count = x.builder, len(x.shape), -x.shape[-1] % GROUP
    if not count:
        return x
    first = x.slice((0,) * rank, (*x.shape[:-1], 1))
    zeros = (first & 0) | (b.iota((*(1,) * (rank - 1), count), rank - 1) & 0)
    return b.concat([x, zeros], rank - 1)


@op(Kind.ROW)
def quantise(
    b: Builder, x: Row, shifts: Tensor | None = None, *, bits: int, up: bool = True
) -> Gse:
    """x Row-w [..., n] -> H·x in GSE-bits [..., n padded to a multiple of 32].

    x has an exponent per row or per column. Each group of 32 is multiplied by the Hadamard matrix
    H, then rounded by the rule of `to_gse`. A row of more than 24 bits, or with exponents per
    column, is rounded to 24 bits first.

    shifts  int8 [1, n]: before all that, column k is multiplied by 2^shifts[k] or, without `up`, by
            its inverse (`shift_columns`)

    Groups that share an exponent: GSQ-Tuning (arXiv 2502.12913), section 3.1. Rotation before
    rounding: Ashkboos et al. 2024, "QuaRot" (arXiv 2404.00456), here inside each group.
    """
    y, e = rotate_groups(x if shifts is None else shift_columns(x, shifts, up=up))
    return to_gse(y, e.reshape(*e.shape[:-1], 1, 1), bits)


def shift_columns(x: Row, shifts: Tensor, *, up: bool) -> Row:
    """x [..., n] · 2^±shifts as a Row-24, for shifts in [0, MOST_SHIFT] and an exponent per row.

    A Row-16 shifted up is exact, and so is what a shift down leaves in 24 bits. All else is rounded
    once, half up: at 2^-23 of the row's largest number going down, at 2^-16 of it going up.
    """
    assert row_exponent(x), "columns are shifted along the axis that shares an exponent"
    m, limit = x.mantissa, largest(ROTATED_BITS)
    k = shifts.cast("int32").reshape(*(1,) * (len(x.shape) - 1), x.shape[-1]) & MOST_SHIFT
    drop = max(0, x.bits + (MOST_SHIFT if up else 0) - ROTATED_BITS)
    if not up:
        m = m.round_shift(k + drop)
    elif drop:
        m = scale_by_power(m, drop - k)
    else:
        m = m << k
    return Row(m.clamp(-limit, limit) if drop else m, x.e + drop, ROTATED_BITS)


def rotate_groups(x: Row) -> Scaled:
    """x [..., n] -> H·x as groups [..., ⌈n / 32⌉, 32], below 2^28, and an exponent per row.

    What is missing in the last group is zero.
    """
    m, e = _on_24_bits(x)
    m = whole_groups(m)
    return m.reshape(*x.shape[:-1], m.shape[-1] // GROUP, GROUP).rotate(), e


def _on_24_bits(x: Row) -> Scaled:
    """x with at most 24 bits and one exponent a row: rounded half up where it has more."""
    if not row_exponent(x):
        m = x.mantissa
        return normalise_mixed(m, x.e | (m & 0), ROTATED_BITS)
    if x.bits <= ROTATED_BITS:
        return x.mantissa, x.e
    limit = largest(ROTATED_BITS)
    drop = x.bits - ROTATED_BITS
    return x.mantissa.round_shift(drop).clamp(-limit, limit), x.e + drop


def scale_rule(bits: int) -> tuple[int, list[int]]:
    """How a group's largest number gives its scale: the code at 2^0, and the numbers that raise it.

    The code of a scale c·2^k is n·k + n·(c - 1), with n = SCALES[bits]. The scale is the least s
    with |y| ≤ (2^(bits-1) - 1/2)·s. So the largest, as a number f in [1, 2), has the first code
    plus one for each bound that f exceeds. The bounds are in units of 2^-30.
    """
    n, twice = SCALES[bits], 2 * largest(bits) + 1

    def bound(code: int) -> int:  # (L + 1/2)·c·2^k, over 2^60
        return twice * (n + code % n) * (1 << (59 + code // n)) // n

    codes = [q for q in range(-12 * n, 2 * n) if 2**60 <= bound(q) < 2**61]
    return codes[0], [bound(q) >> 30 for q in codes]


def scale_code(top: Tensor, e: Tensor, bits: int) -> Tensor:
    """top · 2^e -> the code of the scale by `scale_rule`, no less than the least one.

    top  int32, no number below 0
    """
    n = SCALES[bits]
    first, bounds = scale_rule(bits)
    leading = top.clz()
    normalised = top << (leading - 1).minimum(30)
    code = ((31 - leading) + e) * n + first
    for bound in bounds:
        code = code + where(normalised.greater(bound), 1, 0)
    least = n * (LEAST_EXPONENT + n.bit_length() - 1)
    return where(top.greater(0), code.maximum(least), least)


def to_gse(y: Tensor, e: Tensor, bits: int) -> Gse:
    """y · 2^e, int32 [..., groups, 32] below 2^28 -> GSE-bits [..., groups · 32].

    e  int32 [..., 1, 1], or [..., groups, 32] for an exponent per number

    The scale of a group is the least c·2^k at which no number exceeds the largest mantissa by more
    than half a unit (`scale_rule`). A group more than WINDOW octaves below the largest scale of its
    row has the scale at that distance, and a zero group too. Each number is rounded once, half up,
    and clamped to ±(2^(bits-1) - 1). A zero row has the least exponent.
    """
    *lead, groups, _ = y.shape
    size, n = y.abs(), SCALES[bits]
    if e.shape[-1] == 1:
        code = scale_code(size.reduce_max(), e, bits)
    else:
        code = scale_code(size, e, bits).reduce_max()
    shared = code.reduce_max(-2)
    code = code.maximum(shared - n * WINDOW)
    exponent, step = _exponent_and_step(code, n)
    largest_exponent, _ = _exponent_and_step(shared, n)
    mantissa = mantissas(y, e, code, bits)
    return Gse(
        (mantissa if n == 1 else mantissa * step).reshape(*lead, groups * GROUP).cast("int8"),
        (largest_exponent - exponent).reshape(*lead, groups).cast("int8"),
        largest_exponent.reshape(*lead, 1),
        bits,
    )


def _exponent_and_step(code: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The scale step · 2^exponent of a code, with step in [n, 2n)."""
    fraction = n.bit_length() - 1
    return (code >> fraction) - fraction, (code & (n - 1)) + n


def mantissas(y: Tensor, e: Tensor, code: Tensor, bits: int) -> Tensor:
    """y · 2^e over the scale of a code, rounded half up and clamped to ±(2^(bits-1) - 1)."""
    n, limit = SCALES[bits], largest(bits)
    exponent, step = _exponent_and_step(code, n)
    shift = exponent - e
    if n == 1:
        return scale_by_power(y, shift.clamp(-31, 30)).clamp(-limit, limit)
    left, right = (1 - shift).clamp(0, 31), shift.clamp(1, 28)
    whole = ((y << left) + (step << (right - 1))) >> right
    # A floor of a floor is one floor. ⌊N / step⌋ = (2N + 1)·R >> 16, R = 2^15 / step rounded, for
    # |N| ≤ 512.
    reciprocal = step & 0
    for k in range(n, 2 * n):
        reciprocal = where(step.equal(k), round(2**15 / k), reciprocal)
    return (((whole * 2 + 1) * reciprocal) >> 16).clamp(-limit, limit)


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
    return Row(m.astype(row_dtype(bits)), e.astype(np.int32), bits)


def border_rows(bits: int) -> Row:
    """Rows of three groups at the borders of scales, and one to each side of them.

    A lone number v becomes ±v, 32 times. One group has v, another a
    larger one, the last a small one.
    """
    n, twice = SCALES[bits], 2 * largest(bits) + 1
    borders = np.array([4 * twice * (n + step) for step in range(n)])
    numbers = (borders[:, None] + [-1, 0, 1]).reshape(-1)
    m = np.zeros((numbers.size, 3 * GROUP), np.int32)
    m[:, 3], m[:, GROUP + 7], m[:, -1] = numbers, -numbers[::-1] << 6, 1
    return Row(m, np.full((numbers.size, 1), -12, np.int32), 24)


@cases(quantise)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits in (5, 6, 7, 8):
        yield Case(f"gse{bits} from row-16", [random_row(rng, (9, 96), 16)], {"bits": bits})
    yield Case("row-24", [random_row(rng, (5, 64), 24)], {"bits": 8})
    yield Case("row-30 to 4 bits", [random_row(rng, (6, 64), 30)], {"bits": 4})
    yield Case("exponents per column", [random_row(rng, (6, 64), 16, column=True)], {"bits": 8})
    yield Case("columns, ragged", [random_row(rng, (2, 5, 37), 24, column=True)], {"bits": 8})
    yield Case("ragged", [random_row(rng, (7, 50), 16)], {"bits": 8})
    for bits, up in ((16, True), (24, True), (16, False), (24, False), (30, False)):
        name = f"row-{bits} with columns shifted {'up' if up else 'down'}"
        shifts = rng.integers(0, MOST_SHIFT + 1, (1, 80)).astype(np.int8)
        yield Case(name, [random_row(rng, (6, 80), bits), shifts], {"bits": 6, "up": up})
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
    for bits in (4, 5, 6, 8):
        yield Case(f"gse{bits}, borders of scales", [border_rows(bits)], {"bits": bits})
