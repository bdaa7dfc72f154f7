# SPDX-License-Identifier: Apache-2.0
"""dequantise: frozen weights, stored as codes of 4, 8 or 16 bits, become rows.

Here is what the ops have in common, and that of vectors. `gsqc.numerics.bases` has those of the
bases that a user chooses, and `dequantise_ggml` those of GGUF files.

Codes of 4 bits lie two in a byte: the low nibble belongs to the first half of the row, the high
nibble to the second. A row is padded to whole blocks, and the attribute `columns` is its true
width. The results are Row-30 [N, columns] with one exponent per row. A number is exact where 30
bits below the row's largest hold it, else it is rounded half up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import LEAST_EXPONENT, Row, largest
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import scale_by_power, store_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

BITS = 30


def unpack(codes: Tensor, width: int) -> Tensor:
    """int8 [N, K·width/8] -> the numbers in [0, 2^width), int32 [N, K].

    Bits j·width to (j+1)·width of the bytes are part j of the row, of 8/width parts. Numbers of 8
    bits have a sign.
    """
    wide = codes.cast("int32")
    if width == 8:
        return wide
    mask = (1 << width) - 1
    parts = [(wide >> shift if shift else wide) & mask for shift in range(0, 8, width)]
    return codes.builder.concat(parts, 1)


def look_up(numbers: Tensor, levels: Sequence[int]) -> Tensor:
    """The level of each number in [0, 16), int32. Levels fit int16."""
    table = [0] * 256 + list(levels) + [0] * 241
    return numbers.builder.table((numbers << 7).cast("int16"), table) >> 7


def to_blocks(values: Tensor, scales: Tensor) -> Tensor:
    """values [N, K] as [N, blocks, K / blocks], one block per column of `scales`."""
    rows, count = scales.shape
    return values.reshape(rows, count, values.shape[1] // count)


def per_block(x: Tensor) -> Tensor:
    """int8 or int16 [N, blocks] -> int32 [N, blocks, 1]."""
    return x.cast("int32").reshape(*x.shape, 1)


def blocks_to_row(m: Tensor, e: Tensor, columns: int) -> Row:
    """m int32 [N, blocks, B] with |m| < 2^31, e int32 [N, blocks, 1] -> Row-30 [N, columns].

    The row's exponent is that of its largest number. Smaller numbers are rounded half up.
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
def dequantise_row16(b: Builder, codes: Tensor, exponents: Tensor, *, columns: int) -> Row:
    """codes int16 [N, columns], exponents int8 [N, 1] -> Row-16, exact: the weights of norms."""
    return store_row(codes.cast("int32"), exponents.cast("int32"), 16)


Shape = tuple[int, int, int]
CASE_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("usual", (7, 96, 96)),
    ("ragged", (5, 96, 70)),
    ("one row", (1, 32, 3)),
)
"""The name of each test case, and its rows, padded columns and columns."""


def random_codes(rng: np.random.Generator, rows: int, size: int) -> npt.NDArray[Any]:
    """Test codes int8 [rows, size] with a row of zeros."""
    codes = rng.integers(-128, 128, (rows, size)).astype(np.int8)
    codes[0] = 0
    return codes


def random_scales(
    rng: np.random.Generator, rows: int, blocks: int, limit: int, low: int, high: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scales with a zero row, a row of largest mantissas, and exponents from `low` to `high`."""
    m = rng.integers(-limit, limit + 1, (rows, blocks))
    e = rng.integers(low, high + 1, (rows, blocks))
    if rows > 4:
        m[1] = 0
        m[2] = limit
        e[2] = high
        e[3, 0], e[3, -1] = low, high
    return m.astype(np.int16), e.astype(np.int8)


@cases(dequantise_row16)
def _row16_cases(rng: np.random.Generator) -> Iterator[Case]:
    for columns in (1, 37, 96):
        m = rng.integers(-(2**15) + 1, 2**15, (1, columns)).astype(np.int16)
        yield Case(f"{columns} columns", [m, np.array([[-15]], np.int8)], {"columns": columns})
