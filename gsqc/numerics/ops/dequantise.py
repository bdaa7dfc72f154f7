# SPDX-License-Identifier: Apache-2.0
"""dequantise: frozen weights, stored as codes of 4 or 8 bits, become rows of 30 bits.

Codes of 4 bits lie two in a byte: the low nibble belongs to the first half of the row, the high
nibble to the second. A row is padded to whole blocks; the attribute `columns` is its true width.
Every result is Row-30 [N, columns] with one exponent per row: exact where 30 bits below the row's
largest number hold it, else rounded half up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import GROUP, LEAST_EXPONENT, Row, largest
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import add_scaled, scale_by_power, store_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

BITS = 30

NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The NormalFloat levels. Dettmers et al. 2023, "QLoRA", appendix E."""

NF4_INTEGERS = tuple(round(level * 32767) for level in NF4_LEVELS)
_NF4_TABLE = [0] * 256 + list(NF4_INTEGERS) + [0] * 241


def _nibbles(codes: Tensor) -> Tensor:
    """int8 [N, K/2] -> the nibbles, in [0, 16), int32 [N, K]."""
    wide = codes.cast("int32")
    return codes.builder.concat([wide & 15, (wide >> 4) & 15], 1)


def _blocks(values: Tensor, scales: Tensor) -> Tensor:
    """values [N, K] as [N, blocks, K / blocks], one block per column of `scales`."""
    rows, count = scales.shape
    return values.reshape(rows, count, values.shape[1] // count)


def _per_block(x: Tensor) -> Tensor:
    """int8 or int16 [N, blocks] -> int32 [N, blocks, 1]."""
    return x.cast("int32").reshape(*x.shape, 1)


def _to_row(m: Tensor, e: Tensor, columns: int) -> Row:
    """m [N, blocks, B], |m| < 2^31, e [N, blocks, 1] -> Row-30 [N, columns] at the exponent of the
    row's largest.
    """
    rows, count, width = m.shape
    top = m.abs().reduce_max()
    octave = where(top.greater(0), (32 - top.clz()) + e, LEAST_EXPONENT + BITS - 1)
    shared = (octave.reshape(rows, count).reduce_max() - (BITS - 1)).maximum(LEAST_EXPONENT)
    limit = largest(BITS)
    aligned = scale_by_power(m, (shared.reshape(rows, 1, 1) - e).clamp(-31, 31)).clamp(
        -limit, limit
    )
    mantissa = aligned.reshape(rows, count * width)
    if columns < count * width:
        mantissa = mantissa.slice((0, 0), (rows, columns))
    return store_row(mantissa, shared, BITS)


@op(Kind.ROW)
def dequantise_nf4(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K/2], scale_m int16 in [0, 2^15), scale_e int8 [N, blocks] -> level · scale,
    Row-30.

    A level is an integer, 32767 for 1.0, and the scale is the block's largest magnitude / 32767:
    |product| < 2^30. Dettmers et al. 2023, "QLoRA", section 3, with scales of 15 bits in place of
    double quantisation.
    """
    level = b.table((_nibbles(codes) << 7).cast("int16"), _NF4_TABLE) >> 7
    return _to_row(_blocks(level, scale_m) * _per_block(scale_m), _per_block(scale_e), columns)


@op(Kind.ROW)
def dequantise_q4_1(
    b: Builder,
    codes: Tensor,
    scale_m: Tensor,
    scale_e: Tensor,
    offset_m: Tensor,
    offset_e: Tensor,
    *,
    columns: int,
) -> Row:
    """codes int8 [N, K/2]; scale and offset as fp16 split in int16 (11 bits and sign) and int8, [N,
    K/32] -> Row-30.

    code · scale + offset (ggml's Q4_1): 15 · 2047 · 2^15 < 2^30 and 2047 · 2^18 < 2^29. The sum is
    exact where the exponents of scale and offset are at most 15 apart.
    """
    product = _blocks(_nibbles(codes), scale_m) * (_per_block(scale_m) << 15)
    offset = _per_block(offset_m) << 18
    m, e = add_scaled(product, _per_block(scale_e) - 15, offset, _per_block(offset_e) - 18)
    return _to_row(m, e, columns)


@op(Kind.ROW)
def dequantise_q4_0(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K/2], scale as in q4_1 -> (code - 8) · scale, Row-30 (ggml's Q4_0); |product|
    < 2^14.
    """
    return _to_row(
        _blocks(_nibbles(codes) - 8, scale_m) * _per_block(scale_m), _per_block(scale_e), columns
    )


@op(Kind.ROW)
def dequantise_q8_0(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K], scale as in q4_1 -> code · scale, Row-30 (ggml's Q8_0); |product| < 2^19."""
    product = _blocks(codes.cast("int32"), scale_m) * _per_block(scale_m)
    return _to_row(product, _per_block(scale_e), columns)


@op(Kind.ROW)
def dequantise_gse4(b: Builder, codes: Tensor, exponents: Tensor, *, columns: int) -> Row:
    """codes int8 [N, K/2] (nibbles in two's complement, |m| ≤ 7), exponents int8 [N, K/32] -> m ·
    2^e, Row-30.
    """
    return _to_row(_blocks((_nibbles(codes) ^ 8) - 8, exponents), _per_block(exponents), columns)


@op(Kind.ROW)
def dequantise_gse8(b: Builder, codes: Tensor, exponents: Tensor, *, columns: int) -> Row:
    """codes int8 [N, K], exponents int8 [N, K/32] -> m · 2^e, Row-30."""
    return _to_row(_blocks(codes.cast("int32"), exponents), _per_block(exponents), columns)


@op(Kind.ROW)
def dequantise_row16(b: Builder, codes: Tensor, exponents: Tensor, *, columns: int) -> Row:
    """codes int16 [N, columns], exponents int8 [N, 1] -> Row-16, exact: the weights of norms."""
    return store_row(codes.cast("int32"), exponents.cast("int32"), 16)


Shape = tuple[int, int, int]
_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("usual", (7, 96, 96)),
    ("ragged", (5, 96, 70)),
    ("one row", (1, 32, 3)),
)
"""Names, and rows, padded columns and columns of the test cases."""


def _random_codes(rng: np.random.Generator, rows: int, size: int) -> npt.NDArray[Any]:
    codes = rng.integers(-128, 128, (rows, size)).astype(np.int8)
    codes[0] = 0
    return codes


def _random_scales(
    rng: np.random.Generator, rows: int, blocks: int, limit: int, low: int, high: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scales with a zero row, a row of largest mantissas, and exponents from one end of the range
    to the other.
    """
    m = rng.integers(-limit, limit + 1, (rows, blocks))
    e = rng.integers(low, high + 1, (rows, blocks))
    if rows > 4:
        m[1] = 0
        m[2] = limit
        e[2] = high
        e[3, 0], e[3, -1] = low, high
    return m.astype(np.int16), e.astype(np.int8)


def _random_halves(
    rng: np.random.Generator, rows: int, blocks: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """fp16 numbers as mantissa and exponent: normal ones of all sizes, subnormal ones, a row of
    zeros.
    """
    m = rng.integers(1024, 2048, (rows, blocks)) * rng.choice([-1, 1], (rows, blocks))
    e = rng.integers(-24, 6, (rows, blocks))
    m = np.where(e == -24, m % 1024, m)
    m[0], e[0] = (m[0], e[0]) if rows == 1 else (0, -24)
    return m.astype(np.int16), e.astype(np.int8)


@cases(dequantise_nf4)
def _nf4_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        m, e = _random_scales(rng, rows, width // GROUP, 2**15 - 1, -128, 20)
        yield Case(name, [_random_codes(rng, rows, width // 2), np.abs(m), e], {"columns": columns})
    m, e = _random_scales(rng, 6, 2, 2**15 - 1, -45, -40)
    yield Case("blocks of 64", [_random_codes(rng, 6, 64), np.abs(m), e], {"columns": 128})


@cases(dequantise_q4_1)
def _q4_1_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        scale = _random_halves(rng, rows, width // GROUP)
        offset = _random_halves(rng, rows, width // GROUP)
        yield Case(
            name, [_random_codes(rng, rows, width // 2), *scale, *offset], {"columns": columns}
        )


@cases(dequantise_q4_0)
def _q4_0_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        scale = _random_halves(rng, rows, width // GROUP)
        yield Case(name, [_random_codes(rng, rows, width // 2), *scale], {"columns": columns})


@cases(dequantise_q8_0)
def _q8_0_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        scale = _random_halves(rng, rows, width // GROUP)
        yield Case(name, [_random_codes(rng, rows, width), *scale], {"columns": columns})


@cases(dequantise_gse4)
def _gse4_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        _, e = _random_scales(rng, rows, width // GROUP, 1, -120, 120)
        yield Case(name, [_random_codes(rng, rows, width // 2), e], {"columns": columns})


@cases(dequantise_gse8)
def _gse8_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in _SHAPES:
        _, e = _random_scales(rng, rows, width // GROUP, 1, -120, 120)
        yield Case(name, [_random_codes(rng, rows, width), e], {"columns": columns})


@cases(dequantise_row16)
def _row16_cases(rng: np.random.Generator) -> Iterator[Case]:
    for columns in (1, 37, 96):
        m = rng.integers(-(2**15) + 1, 2**15, (1, columns)).astype(np.int16)
        yield Case(f"{columns} columns", [m, np.array([[-15]], np.int8)], {"columns": columns})
