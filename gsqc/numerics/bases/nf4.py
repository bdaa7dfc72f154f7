# SPDX-License-Identifier: Apache-2.0
"""nf4: the nearest of sixteen levels, in blocks of 64 numbers that share a scale.

NormalFloat: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3, with
scales of 15 bits in place of double quantisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsqc.numerics.bases.base import Base, Part, Wide, in_blocks, mantissas, pack
from gsqc.numerics.formats import GROUP, Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.dequantise import (
    CASE_SHAPES,
    blocks_to_row,
    look_up,
    per_block,
    random_codes,
    random_scales,
    to_blocks,
    unpack,
)
from gsqc.numerics.ops.registry import Case, Kind, cases, op

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
"""The NormalFloat levels, the largest of which is 1. Dettmers et al. 2023, "QLoRA", appendix E."""

NF4_INTEGERS = tuple(round(level * 32767) for level in NF4_LEVELS)
_TOP = max(NF4_INTEGERS)
_NEAREST = np.searchsorted(
    np.add(NF4_INTEGERS[1:], NF4_INTEGERS[:-1]), np.arange(-2 * _TOP, 2 * _TOP + 1)
).astype(np.uint8)
"""The nearest level by twice the number, rounded up: borders between levels are whole halves."""
BLOCK = 64


@dataclass(frozen=True)
class Nf4(Base):
    """Blocks have 64 numbers, or 32 if 64 does not divide a row."""

    kind: ClassVar[str] = "nf4"
    bits: ClassVar[int] = 4
    default: ClassVar[bool] = True

    @staticmethod
    def encode(wide: Wide) -> Part:
        """A block's scale, its largest magnitude / 32767, is rounded to 15 bits."""
        rows, columns = wide.shape
        blocks = in_blocks(wide, BLOCK if columns % BLOCK == 0 else GROUP)
        scale_m, scale_e = mantissas(np.abs(blocks).max(-1, keepdims=True) / _TOP, 16)
        scale = np.ldexp(scale_m.astype(np.float64), scale_e)
        relative = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
        doubled = np.ceil(relative * 2).clip(-2 * _TOP, 2 * _TOP).astype(np.int32)
        nibbles = _NEAREST[doubled + 2 * _TOP]
        arrays = {
            "codes": pack(nibbles.reshape(rows, -1)),
            "scale_m": scale_m[..., 0].astype(np.int16),
            "scale_e": scale_e[..., 0].astype(np.int8),
        }
        return Part(arrays, np.asarray(NF4_INTEGERS, np.float64)[nibbles] * scale, blocks)


@op(Kind.ROW)
def dequantise_nf4(
    b: Builder, codes: Tensor, scale_m: Tensor, scale_e: Tensor, *, columns: int
) -> Row:
    """codes int8 [N, K/2], scale_m int16 and scale_e int8 [N, blocks] -> level · scale, Row-30.

    A level is an integer, 32767 for 1.0. The scale is the block's largest magnitude / 32767, with a
    mantissa in [0, 2^15), so |product| < 2^30. Dettmers et al. 2023, "QLoRA", section 3, with
    scales of 15 bits in place of double quantisation.
    """
    level = look_up(unpack(codes, 4), NF4_INTEGERS)
    return blocks_to_row(
        to_blocks(level, scale_m) * per_block(scale_m), per_block(scale_e), columns
    )


@cases(dequantise_nf4)
def _nf4_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in CASE_SHAPES:
        m, e = random_scales(rng, rows, width // GROUP, 2**15 - 1, -128, 20)
        yield Case(name, [random_codes(rng, rows, width // 2), np.abs(m), e], {"columns": columns})
    m, e = random_scales(rng, 6, 2, 2**15 - 1, -45, -40)
    yield Case("blocks of 64", [random_codes(rng, 6, 64), np.abs(m), e], {"columns": 128})
