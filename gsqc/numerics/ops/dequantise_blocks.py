# SPDX-License-Identifier: Apache-2.0
"""dequantise_blocks: frozen weights as any block format of ggml stores them become rows of 30 bits.

ggml is the library of llama.cpp. Its formats differ in how they pack, but each number is

    code · step · scale + offset step · offset

A unit of 16 to 256 numbers has a scale, which a bundle stores split: int16 (11 bits and sign) and
int8, both [N, K/unit]. A block of it, of 16 or 32 numbers, has a step, int8 [N, K/block]. Formats
without steps have a scale for each block. Some have offsets, with steps of their own. A code is a
number, or stands for one of 16 levels.

Codes of 2 to 6 bits lie in one or two planes: the low bits first, then the others. `unpack` says
how the numbers of a plane lie in its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.dequantise import blocks_to_row, look_up, random_codes, unpack
from gsqc.numerics.ops.dequantise_ggml import random_halves
from gsqc.numerics.ops.primitives import add_scaled
from gsqc.numerics.ops.registry import Case, Kind, cases, op

LEVELS = {
    "iq4_nl": (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113),
    "e2m1": (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
}
"""What the 16 codes of a format stand for: kvalues_iq4nl of ggml, and FP4's numbers doubled (OCP
Microscaling Formats 1.0, section 5.3.3).
"""
_SCALE_BITS = 11
_PRODUCT_BITS = 29


def code_values(planes: Sequence[Tensor], widths: Sequence[int], levels: str) -> Tensor:
    """The codes of all planes, int32 [N, K], or the levels that they stand for."""
    codes, bits = unpack(planes[0], widths[0]), widths[0]
    for further, width in zip(planes[1:], widths[1:], strict=True):
        codes = codes | (unpack(further, width) << bits)
        bits += width
    return look_up(codes, LEVELS[levels]) if levels else codes


def largest_code(widths: Sequence[int], bias: int, levels: str) -> int:
    """The largest magnitude that a code can have."""
    if levels:
        return max(map(abs, LEVELS[levels]))
    bits = sum(widths)
    return 128 if widths[0] == 8 else max(abs(bias), abs((1 << bits) - 1 + bias))


def _in_blocks(x: Tensor, units: int) -> Tensor:
    """[N, blocks] as int32 [N, units, blocks of a unit, 1]."""
    rows, count = x.shape
    return x.cast("int32").reshape(rows, units, count // units, 1)


@op(Kind.ROW)
def dequantise_blocks(
    b: Builder,
    *arrays: Tensor,
    widths: Sequence[int],
    bias: int,
    levels: str,
    step_bits: int,
    offset: bool,
) -> Row:
    """Planes, scale_m, scale_e[, steps][, offset_m, offset_e[, offset_steps]] -> Row-30 [N, K].

    widths     the bits of each plane
    bias       is added to every code
    levels     the name of the levels that codes stand for, or ""
    step_bits  steps are at most 2^step_bits in magnitude; 0 if there are none
    offset     whether there are offsets

    A number without an offset is exact where 30 bits below the row's largest hold it. The two parts
    of a number with an offset are added at the larger of their exponents, each rounded half up.
    No overflow: the parts are at most 2^29, because a scale has 11 bits.
    """
    parts = iter(arrays)
    codes = code_values([next(parts) for _ in widths], widths, levels)
    codes = codes + bias if bias else codes
    scale_m, scale_e = next(parts), next(parts)
    rows, units = scale_m.shape
    steps = _in_blocks(next(parts), units) if step_bits else None
    blocks = 1 if steps is None else steps.shape[2]
    m = codes.reshape(rows, units, blocks, codes.shape[1] // (units * blocks))
    m = (m if steps is None else m * steps) * _in_blocks(scale_m, units)
    e = _in_blocks(scale_e, units)
    if offset:
        offset_m, offset_e = (_in_blocks(next(parts), units) for _ in range(2))
        offset_m = offset_m * _in_blocks(next(parts), units) if step_bits else offset_m
        up = _PRODUCT_BITS - step_bits - _SCALE_BITS
        code_up = up - largest_code(widths, bias, levels).bit_length()
        m, e = add_scaled(m << code_up, e - code_up, offset_m << up, offset_e - up)
    columns = codes.shape[1]
    m, e = m.reshape(rows, units, columns // units), e.reshape(rows, units, 1)
    return blocks_to_row(m, e, columns)


_CASES: tuple[tuple[str, tuple[int, ...], int, str, int, int, int, bool], ...] = (
    ("5 bits with offsets", (4, 1), 0, "", 32, 32, 0, True),
    ("q2_k", (2,), 0, "", 256, 16, 4, True),
    ("q3_k", (2, 1), -4, "", 256, 16, 5, False),
    ("q4_k and q6_k", (4, 2), -32, "", 256, 16, 7, True),
    ("iq4_xs", (4,), 0, "iq4_nl", 256, 32, 5, False),
    ("nvfp4", (4,), 0, "e2m1", 16, 16, 0, False),
    ("8 bits, all parts", (8,), 0, "", 32, 16, 7, True),
)
"""A name, widths, bias, levels, numbers of a unit and of a block, bits of steps, and offsets."""


def _case_arrays(
    rng: np.random.Generator, widths: Sequence[int], unit: int, block: int, bits: int, offset: bool
) -> list[npt.NDArray[Any]]:
    rows, columns = 6, 512

    def steps() -> list[npt.NDArray[Any]]:
        limit = min((1 << bits) - 1, 127)
        drawn = rng.integers(-limit, limit + 1, (rows, columns // block))
        drawn[1] = limit
        return [drawn.astype(np.int8)] if bits else []

    arrays = [random_codes(rng, rows, columns * width // 8) for width in widths]
    arrays += [*random_halves(rng, rows, columns // unit), *steps()]
    return arrays + ([*random_halves(rng, rows, columns // unit), *steps()] if offset else [])


@cases(dequantise_blocks)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, widths, bias, levels, unit, block, bits, offset in _CASES:
        attributes = {"widths": widths, "bias": bias, "levels": levels}
        attributes |= {"step_bits": bits, "offset": offset}
        yield Case(name, _case_arrays(rng, widths, unit, block, bits, offset), attributes)
