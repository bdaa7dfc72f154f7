# SPDX-License-Identifier: Apache-2.0
"""Number formats, emulated: float32 values rounded to exactly what a format can hold.

Each function takes float32 [..., K] and gives float32 of the same shape. Groups and rows lie along
the last axis, which is the one that a product reduces over. A last group may be short. Without
another word a value is rounded to the nearest, ties to even, and saturates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gsqc.numerics.bases.nf4 import NF4_LEVELS

Format = Callable[[Tensor], Tensor]

MX_GROUP, NVFP4_GROUP, GSE_GROUP = 32, 16, 32
NF4_BLOCK, NF4_SCALES = 64, 256
GSE_WINDOW = 31
"""Octaves that a shared exponent of 5 bits spans."""
LEAST_SCALE = 2.0**-126
"""The least normal float32."""
_EXPONENT_MASK = 255 << 23


@dataclass(frozen=True)
class Element:
    """A small float: a sign, `exponent_bits` and `mantissa_bits`, with subnormals.

    The exponent's bias is 2^(exponent_bits - 1) - 1. `largest` is the largest finite number.
    """

    exponent_bits: int
    mantissa_bits: int
    largest: float

    @property
    def largest_exponent(self) -> int:
        """⌊log2 largest⌋."""
        return math.frexp(self.largest)[1] - 1


E4M3, E5M2 = Element(4, 3, 448.0), Element(5, 2, 57344.0)
"""FP8. Micikevicius et al. 2022, "FP8 Formats for Deep Learning" (arXiv 2209.05433), table 1."""
E2M3, E3M2, E2M1 = Element(2, 3, 7.5), Element(3, 2, 28.0), Element(2, 1, 6.0)
"""FP6 and FP4. OCP Microscaling Formats (MX) Specification 1.0 (2023), section 5.3."""


# ------------------------------------------------------------------------------------------------
# parts


def power_of(x: Tensor) -> Tensor:
    """2^⌊log2 |x|⌋, from the bits. It is 0 for zero and for float32's subnormals."""
    return (x.contiguous().view(torch.int32) & _EXPONENT_MASK).view(torch.float32)


def round_element(x: Tensor, element: Element) -> Tensor:
    """x rounded to numbers of `element`.

    The sum of x and 1.5 · 2^(23 - m) times x's power of two has the element's step as its last
    place. So float32's own addition rounds to that step, ties to even.
    """
    least = 2.0 ** (2 - 2 ** (element.exponent_bits - 1))
    shift = power_of(x).clamp_(min=least).mul_(1.5 * 2.0 ** (23 - element.mantissa_bits))
    return (x + shift).sub_(shift).clamp_(-element.largest, element.largest)


def in_groups(x: Tensor, size: int) -> Tensor:
    """x [..., K] as [..., groups, size], padded with zeros."""
    short = -x.shape[-1] % size
    padded = torch.nn.functional.pad(x, (0, short)) if short else x
    return padded.reshape(*x.shape[:-1], -1, size)


def out_of_groups(groups: Tensor, like: Tensor) -> Tensor:
    """Undoes in_groups."""
    return groups.flatten(-2)[..., : like.shape[-1]]


def _or_one(scale: Tensor) -> Tensor:
    """The scale, or 1 where it is 0: the numbers there are all 0."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


# ------------------------------------------------------------------------------------------------
# formats


def float32(x: Tensor) -> Tensor:
    """x itself."""
    return x


def bf16(x: Tensor) -> Tensor:
    """bfloat16: 8 bits of exponent, 7 of mantissa."""
    return x.bfloat16().float()


def fp8(x: Tensor, element: Element) -> Tensor:
    """FP8 with one float32 scale a tensor, by which its largest number becomes the element's.

    Micikevicius et al. 2022 (arXiv 2209.05433), section 3.1. The scale is of the tensor at hand.
    """
    scale = element.largest / _or_one(x.abs().amax())
    return round_element(x * scale, element) / scale


def mx(x: Tensor, element: Element) -> Tensor:
    """An MX format: groups of 32 share a power of two, an E8M0.

    OCP Microscaling Formats (MX) Specification 1.0 (2023), section 6.3: the scale is 2^(⌊log2 of
    the group's largest⌋ - the element's largest exponent), and elements saturate. Scales below
    2^-126 are raised to it.
    """
    groups = in_groups(x, MX_GROUP)
    top = power_of(groups.abs().amax(-1, keepdim=True))
    scale = top.mul_(2.0**-element.largest_exponent).clamp_(min=LEAST_SCALE)
    return out_of_groups(round_element(groups / scale, element) * scale, x)


def nvfp4(x: Tensor) -> Tensor:
    """NVFP4: E2M1 in groups of 16 that share an E4M3 scale, and one float32 scale a tensor.

    NVIDIA 2025, "Pretraining Large Language Models with NVFP4" (arXiv 2509.25149): the tensor's
    scale is max / (6 · 448), a group's is its max / 6 over that, rounded to E4M3. A group whose
    scale rounds to 0 becomes 0. Without that paper's blocks of 16 × 16, rotation and stochastic
    rounding.
    """
    groups = in_groups(x, NVFP4_GROUP)
    tensor = _or_one(x.abs().amax()) / (E2M1.largest * E4M3.largest)
    top = groups.abs().amax(-1, keepdim=True)
    scale = round_element(top / E2M1.largest / tensor, E4M3) * tensor
    rounded = round_element(groups / _or_one(scale), E2M1) * scale
    return out_of_groups(rounded, x)


def int8_per_channel(x: Tensor) -> Tensor:
    """int8 in ±127 with one float32 scale a row: a token, a channel of a weight.

    Symmetric, by the row's largest. Dettmers et al. 2022, "LLM.int8()" (arXiv 2208.07339), section
    3, vector-wise, without its outliers.
    """
    scale = _or_one(x.abs().amax(-1, keepdim=True)) / 127
    return torch.round(x / scale).clamp(-127, 127) * scale


def gse(x: Tensor, bits: int) -> Tensor:
    """GSE as in the paper: groups of 32 integers of `bits` bits share an exponent of 5 bits.

    Zhou et al. 2025, "GSQ-Tuning" (arXiv 2502.12913), section 3.1. The scale is the least power of
    two with max < 2^(bits-1) · scale. What the paper leaves open: here ties go up, and the 31
    octaves end at the tensor's largest exponent.
    """
    groups = in_groups(x, GSE_GROUP)
    top = power_of(groups.abs().amax(-1, keepdim=True)).mul_(2.0 ** (2 - bits))
    scale = torch.maximum(top, top.amax() * 2.0**-GSE_WINDOW).clamp_(min=LEAST_SCALE)
    # In halves of a step, because v + ½ is not exact for every float32 v.
    halves = torch.floor(groups * 2 / scale)
    limit = 2 ** (bits - 1) - 1
    mantissas = torch.floor(halves.add_(1).mul_(0.5)).clamp_(-limit, limit)
    return out_of_groups(mantissas * scale, x)


def nf4(x: Tensor) -> Tensor:
    """NF4: the nearest of 16 levels times the largest of a block of 64, for frozen weights.

    Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314), section 3, with double quantisation: less
    their mean, the scales of 256 blocks are FP8 (E4M3) with a float32 scale of their own. 4.127
    bits.
    """
    blocks = in_groups(x, NF4_BLOCK)
    top = blocks.abs().amax(-1)
    scales = in_groups(top.flatten() - top.mean(), NF4_SCALES)
    factor = E4M3.largest / _or_one(scales.abs().amax(-1, keepdim=True))
    rounded = (round_element(scales * factor, E4M3) / factor).flatten()[: top.numel()]
    scale = (rounded + top.mean()).reshape(top.shape)[..., None]
    levels = torch.tensor(NF4_LEVELS)
    middles = (levels[1:] + levels[:-1]) / 2
    nearest = levels[torch.bucketize(blocks / _or_one(top)[..., None], middles)]
    return out_of_groups(nearest * scale, x)
