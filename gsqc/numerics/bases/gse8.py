# SPDX-License-Identifier: Apache-2.0
"""gse8: mantissas of 8 bits, 32 to an exponent.

Groups that share an exponent: GSQ-Tuning, arXiv 2502.12913, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsqc.numerics.bases.base import Base, Part, Wide, encode_groups
from gsqc.numerics.formats import GROUP, Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.dequantise import (
    CASE_SHAPES,
    blocks_to_row,
    per_block,
    random_codes,
    random_scales,
    to_blocks,
)
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@dataclass(frozen=True)
class Gse8(Base):
    """A code is a mantissa with |m| ≤ 127."""

    kind: ClassVar[str] = "gse8"
    bits: ClassVar[int] = 8
    default: ClassVar[bool] = True

    @staticmethod
    def encode(wide: Wide) -> Part:
        """The least exponent at which a group's largest number fits. Mantissas round half up."""
        return encode_groups(wide, 8)


@op(Kind.ROW)
def dequantise_gse8(b: Builder, codes: Tensor, exponents: Tensor, *, columns: int) -> Row:
    """codes int8 [N, K], exponents int8 [N, K/32] -> m · 2^e, Row-30."""
    return blocks_to_row(to_blocks(codes.cast("int32"), exponents), per_block(exponents), columns)


@cases(dequantise_gse8)
def _gse8_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, (rows, width, columns) in CASE_SHAPES:
        _, e = random_scales(rng, rows, width // GROUP, 1, -120, 120)
        yield Case(name, [random_codes(rng, rows, width), e], {"columns": columns})
