# SPDX-License-Identifier: Apache-2.0
"""dequantise_ggml: frozen weights as a GGUF file stores them become rows of 30 bits.

The formats are Q4_0, Q4_1 and Q8_0 of ggml, the library of llama.cpp. A block of 32 numbers has
an fp16 scale, which a bundle stores split: scale_m int16 (11 bits and sign) and scale_e int8, both
[N, K/32]. Codes and results are laid out as in `dequantise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import GROUP, Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.dequantise import (
    CASE_SHAPES,
    blocks_to_row,
    per_block,
    random_codes,
    to_blocks,
    unpack,
)
from gsqc.numerics.ops.primitives import add_scaled
from gsqc.numerics.ops.registry import Case, Kind, cases, op


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
    """codes int8 [N, K/2], scale, offset like scale -> code · scale + offset, Row-30 (ggml's Q4_1).

    No overflow: 15 · 2047 · 2^15 < 2^30 and 2047 · 2^18 < 2^29. The sum is exact where the
    exponents of scale and offset are at most 15 apart.
    """
    product = to_blocks(unpack(codes, 4), scale_m) * (per_block(scale_m) << 15)
    offset = per_block(offset_m) << 18
    m, e = add_scaled(product, per_block(scale_e) - 15, offset, per_block(offset_e) - 18)
    return blocks_to_row(m, e, columns)


@op(Kind.ROW)
def dequantise_q4_0(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K/2], scale -> (code - 8) · scale, Row-30 (ggml's Q4_0). |product| < 2^14."""
    return blocks_to_row(
        to_blocks(unpack(codes, 4) - 8, scale_m) * per_block(scale_m), per_block(scale_e), columns
    )


@op(Kind.ROW)
def dequantise_q8_0(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K], scale -> code · scale, Row-30 (ggml's Q8_0). |product| < 2^19."""
    product = to_blocks(codes.cast("int32"), scale_m) * per_block(scale_m)
    return blocks_to_row(product, per_block(scale_e), columns)


def random_halves(
    rng: np.random.Generator, rows: int, blocks: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """fp16 numbers as mantissa and exponent: normal ones of all sizes, subnormal ones, zeros."""
    m = rng.integers(1024, 2048, (rows, blocks)) * rng.choice([-1, 1], (rows, blocks))
    e = rng.integers(-24, 6, (rows, blocks))
    m = np.where(e == -24, m % 1024, m)
    m[0], e[0] = (m[0], e[0]) if rows == 1 else (0, -24)
    return m.astype(np.int16), e.astype(np.int8)


@cases(dequantise_q4_1)
def _q4_1_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in CASE_SHAPES:
        scale = random_halves(rng, rows, width // GROUP)
        offset = random_halves(rng, rows, width // GROUP)
        yield Case(
            name, [random_codes(rng, rows, width // 2), *scale, *offset], {"columns": columns}
        )


@cases(dequantise_q4_0)
def _q4_0_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in CASE_SHAPES:
        scale = random_halves(rng, rows, width // GROUP)
        yield Case(name, [random_codes(rng, rows, width // 2), *scale], {"columns": columns})


@cases(dequantise_q8_0)
def _q8_0_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in CASE_SHAPES:
        scale = random_halves(rng, rows, width // GROUP)
        yield Case(name, [random_codes(rng, rows, width), *scale], {"columns": columns})
