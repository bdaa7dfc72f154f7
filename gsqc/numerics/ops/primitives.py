# SPDX-License-Identifier: Apache-2.0
"""Building blocks of the ops in int32 operators: normalisation, sums, reciprocals, roots, exp.

A pair (m, e) stands for m · 2^e. Tables have 513 int16 entries, which TABLE interpolates. They are
centred on 0.75, which wins one bit. A table and one Newton step give reciprocal and reciprocal root
with a relative error of 3e-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gsqc.numerics.formats import LEAST_EXPONENT, Row, largest, row_dtype
from gsqc.numerics.operators.builder import Tensor, where

Scaled = tuple[Tensor, Tensor]
"""A mantissa and an exponent: m · 2^e."""


def constant_like(x: Tensor, value: int) -> Tensor:
    """An int32 constant of x's rank."""
    return x.builder.const(value, len(x.shape))


def scaled_constant(x: Tensor, value: float) -> Scaled:
    """A number as (m, e) of x's rank, with |m| ≤ 2^29."""
    fraction, exponent = np.frexp(value)
    mantissa = round(float(fraction) * 2**29)
    return constant_like(x, mantissa), constant_like(x, int(exponent) - 29)


def q31(value: float) -> int:
    """A factor in [0, 1) as the constant of `mulc`, over 2^31. Evaluated when compiling."""
    return round(value * 2.0**31)


def scale_by_power(x: Tensor, n: Tensor | int) -> Tensor:
    """x · 2^-n, rounded half up, for n in [-31, 31].

    A negative n shifts left. The caller proves that the result fits.
    """
    if isinstance(n, int):
        return x.round_shift(n) if n > 0 else x << -n if n < 0 else x
    return (x << (0 - n).clamp(0, 31)).round_shift(n.clamp(0, 31))


def saturating_scale(x: Tensor, n: Tensor, limit_bits: int = 29) -> Tensor:
    """x · 2^-n, rounded half up, for any n. It saturates at ±2^limit_bits, limit_bits ≤ 30."""
    left = (0 - n).clamp(0, 30)
    bound = constant_like(x, 2**31 - 1) >> left
    shifted = (x.clamp(0 - bound, bound) << left).round_shift(n.clamp(0, 31))
    return shifted.clamp(-(2**limit_bits), 2**limit_bits)


def normalise(m: Tensor, e: Tensor, bits: int) -> Scaled:
    """(m, e) with |m| < 2^31 and one exponent per row -> the same with |m| ≤ 2^(bits-1) - 1.

    No exponent is below LEAST_EXPONENT: there, mantissas lose bits. A zero row has that exponent,
    so adding it to a row costs nothing.
    """
    size = m.abs()
    top = size if m.shape[-1] == 1 else size.reduce_max()
    n = ((33 - bits) - top.clz()).maximum(LEAST_EXPONENT - e)
    n = where(top.greater(0), n, LEAST_EXPONENT - e)
    limit = largest(bits)
    return scale_by_power(m, n.clamp(-31, 31)).clamp(-limit, limit), e + n


def normalise_mixed(m: Tensor, e: Tensor, bits: int) -> Scaled:
    """As `normalise`, for an exponent per element: e has the shape of m.

    The exponent of a row is that of its largest number.
    """
    size = m.abs()
    top = where(size.greater(0), (32 - size.clz()) + e, LEAST_EXPONENT + bits - 1).reduce_max()
    shared = (top - (bits - 1)).maximum(LEAST_EXPONENT)
    limit = largest(bits)
    return scale_by_power(m, (shared - e).clamp(-31, 31)).clamp(-limit, limit), shared


def store_row(m: Tensor, e: Tensor, bits: int) -> Row:
    """The pair (m, e) as a Row, its mantissas in their storage type."""
    return Row(m.cast(row_dtype(bits)), e, bits)


def widen(x: Row) -> Scaled:
    """x as (m, e) of 30 bits: |m| < 2^29, so that two of them can be added."""
    return x.mantissa << (30 - x.bits), x.e - (30 - x.bits)


def narrow16(x: Row) -> Scaled:
    """x as (m, e) of at most 16 bits, rounded half up where it has more."""
    if x.bits <= 16:
        return x.mantissa, x.e
    limit = largest(16)
    return x.mantissa.round_shift(x.bits - 16).clamp(-limit, limit), x.e + (x.bits - 16)


def scale_by_constant(m: Tensor, e: Tensor, factor: float) -> Scaled:
    """(m, e) · factor for a positive factor known when compiling, and |m| ≤ 2^30.

    A power of two changes the exponent only.
    """
    c, k = constant_factor(factor)
    return (m, e + (k - 1)) if c == 2**30 else (m.mulc(c), e + k)


def row_exponent(x: Row) -> bool:
    """Whether x has one exponent per row. After a transpose it has one per column."""
    return x.e.shape[-1] == 1  # type: ignore[no-any-return]


def normalise_elements(m: Tensor) -> tuple[Tensor, Tensor]:
    """m in [1, 2^31) -> each element shifted into [2^29, 2^30), and its shift k.

    The value is the result · 2^-k.
    """
    k = m.clz() - 2
    return scale_by_power(m, 0 - k), k


def add_scaled(m1: Tensor, e1: Tensor, m2: Tensor, e2: Tensor) -> Scaled:
    """The sum of two pairs at the larger exponent, for |m| < 2^30 each."""
    e = e1.maximum(e2)
    return m1.round_shift((e - e1).minimum(31)) + m2.round_shift((e - e2).minimum(31)), e


def pack30(high: Tensor, low: Tensor) -> Scaled:
    """high·2^15 + low with 0 ≤ low < 2^15 -> (m, e) with |m| < 2^30.

    At least 29 significant bits are kept.
    """
    free = (high.abs().clz() - 2).minimum(15)
    return scale_by_power(high, 0 - free) + low.round_shift(15 - free.maximum(0)), 15 - free


def row_sum(m: Tensor) -> Scaled:
    """The sum of |m| < 2^31 over at most 2^15 columns -> (m, e) as of `pack30`.

    The sum is exact in two halves, the lower of 15 bits.
    """
    high, low = (m >> 15).reduce_sum(), (m & 0x7FFF).reduce_sum()
    return pack30(high + (low >> 15), low & 0x7FFF)


# --------------------------------------------------------------------------------------------------
# tables


def _table(function: Callable[[float], float]) -> list[int]:
    return [round((function(i / 512) - 0.75) * 2**16) for i in range(513)]


def table_pair(function: Callable[[float], float]) -> tuple[list[int], list[int]]:
    """Entries of 30 bits for `lookup30_fine`: the function on [0, 1], with values in (¼, 1¼)."""
    full = [round((function(i / 512) - 0.75) * 2**30) for i in range(513)]
    high = [(x + 8192) >> 14 for x in full]
    return high, [x - (h << 14) for x, h in zip(full, high, strict=True)]


EXP2 = _table(lambda f: 2.0**-f)
EXP2_PAIR = table_pair(lambda f: 2.0**-f)
RECIPROCAL = _table(lambda f: 1 / (1 + f))
RECIPROCAL_ROOT = _table(lambda f: (4 * f) ** -0.5 if f >= 0.25 else 1.0)
LOG2_PAIR = table_pair(lambda f: math.log2(1 + f) * 0.5 + 0.5)


def lookup30(x: Tensor, table: list[int]) -> Tensor:
    """x in [0, 65535], a fraction in Q16 -> the table's value in Q30, below 2^30."""
    b = x.builder
    return ((b.table((x - 32768).cast("int16"), table) + 3 * 2**21) << 7).minimum(2**30 - 1)


def lookup30_fine(x: Tensor, pair: tuple[list[int], list[int]]) -> Tensor:
    """As `lookup30`, from a table of 30-bit entries that is stored as a pair of tables."""
    b = x.builder
    index = (x - 32768).cast("int16")
    fine = (b.table(index, pair[0]) << 7) + b.table(index, pair[1]).round_shift(7)
    return (fine + 3 * 2**28).minimum(2**30 - 1)


def exp2_negative(d: Tensor, *, fine: bool = False) -> Tensor:
    """d ≥ 0 in Q16 -> 2^-d in Q30. The relative error is 2^-17, or 2^-21 if `fine`."""
    fraction = d & 0xFFFF
    value = lookup30_fine(fraction, EXP2_PAIR) if fine else lookup30(fraction, EXP2)
    return value.round_shift((d >> 16).minimum(31))


def reciprocal(m: Tensor) -> Tensor:
    """m in [2^29, 2^30) -> r in (2^29, 2^30) with r · m ≈ 2^59. The relative error is 3e-9."""
    r = lookup30((m >> 13) - 65536, RECIPROCAL)
    error = 2**29 - r.mulr30(m)
    return (r + ((r >> 15) * error).round_shift(14)).minimum(2**30 - 1)


def reciprocal_root(m: Tensor, e: Tensor) -> Scaled:
    """(m, e) with 0 < m < 2^31 -> (r, f) = 1 / √(m · 2^e), with r in [2^29, 2^30).

    The relative error is 3e-9.
    """
    m = m.maximum(1)
    k = m.clz() - 2
    odd = (e - k) & 1
    v = scale_by_power(m, odd - k)  # in [2^28, 2^30), at the even exponent e - k + odd
    even = e - k + odd
    r = lookup30(v.round_shift(14).minimum(65535), RECIPROCAL_ROOT)
    error = 2**28 - r.mulr30(r).mulr30(v)
    r = (r + ((r >> 15) * error).round_shift(14)).minimum(2**30 - 1)
    return r, (0 - (even >> 1)) - 44


LOG2_E_HALF = q31(math.log2(math.e) / 2)
LN_2 = q31(math.log(2))


def constant_factor(value: float) -> tuple[int, int]:
    """A positive factor as (c, k) for `mulc` and a shift: c / 2^31 · 2^k with c in [2^30, 2^31)."""
    fraction, exponent = np.frexp(value)
    return min(q31(float(fraction)), 2**31 - 1), int(exponent)


def to_log2_units(m: Tensor, e: Tensor, factor: float = 1.0) -> Tensor:
    """(m, e) · factor in natural units, with |m| < 2^30 -> Q16 in units of log2.

    It saturates at ±2^29, which is 8192 octaves.
    """
    c, k = constant_factor(math.log2(math.e) * factor)
    return saturating_scale(m.mulc(c), (0 - 16 - k) - e)
