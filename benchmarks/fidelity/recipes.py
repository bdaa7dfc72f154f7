# SPDX-License-Identifier: Apache-2.0
"""Recipes: the formats that a peer's step has, operand by operand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.fidelity import formats
from benchmarks.fidelity.formats import E2M1, E2M3, E3M2, E4M3, E5M2, Format, bf16, float32
from gsqc.compiler.options import Bits


@dataclass(frozen=True)
class Recipe:
    """Formats of a LoRA step.

    bits     bits of an operand of the linears, its share of scales counted: the mean over the three
             products
    operand  activations, weights and adapter factors as operands of the linears, in both passes
    gradient  gradients as operands of the linears
    base     the frozen weights as stored, before they become operands
    other    the embedding table and all operands of attention and head, in both passes
    short    every operand has at most 8 significant bits, so it is a bfloat16 too

    Sums, softmax, norms, the residual stream, the adapter's weights and AdamW are float32.
    """

    bits: float
    operand: Format
    gradient: Format
    base: Format = float32
    other: Format = bf16
    short: bool = False


def _uniform(bits: float, each: Format, short: bool = True) -> Recipe:
    return Recipe(bits, each, each, short=short)


FLOAT = "float32"
PEERS = {
    FLOAT: Recipe(32, float32, float32, other=float32),
    "bf16": _uniform(16, bf16),
    "nf4 + bf16": Recipe(16, bf16, bf16, base=formats.nf4, short=True),
    "fp8": Recipe(8, partial(formats.fp8, element=E4M3), partial(formats.fp8, element=E5M2)),
    "mxfp8": _uniform(8 + 8 / 32, partial(formats.mx, element=E4M3)),
    "mxfp6 e2m3": _uniform(6 + 8 / 32, partial(formats.mx, element=E2M3)),
    "mxfp6 e3m2": _uniform(6 + 8 / 32, partial(formats.mx, element=E3M2)),
    "mxfp4": _uniform(4 + 8 / 32, partial(formats.mx, element=E2M1)),
    "nvfp4": _uniform(4 + 8 / 16, formats.nvfp4, short=False),
    "int8": _uniform(8, formats.int8_per_channel, short=False),
    "gse8 (paper)": _uniform(8 + 5 / 32, partial(formats.gse, bits=8)),
    "gse6 (paper)": _uniform(6 + 5 / 32, partial(formats.gse, bits=6)),
    "gse5 (paper)": _uniform(5 + 5 / 32, partial(formats.gse, bits=5)),
}
"""Attention and head are bf16 in every peer, as their own recipes leave them: NVIDIA Transformer
Engine for FP8 and MXFP8, arXiv 2509.25149 for NVFP4. It is kinder than gsqc's 8 bits there. MXFP8
has E4M3 for gradients too (NVIDIA 2025, arXiv 2506.08027)."""


def gsqc_bits(bits: Bits) -> float:
    """Bits of an operand of gsqc's linears: mantissas, and a byte of exponent for 32 of them.

    Of the six operands of x·Wᵀ, dy·W and dyᵀ·x two are activations, two weights, two gradients.
    """
    return (bits.a + bits.base + bits.g) / 3 + 8 / formats.GSE_GROUP


def operand_bits(side: str) -> float:
    """Bits of an operand of a side: a peer's name, or what --bits takes."""
    return PEERS[side].bits if side in PEERS else gsqc_bits(Bits.parse(side))
