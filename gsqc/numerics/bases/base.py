# SPDX-License-Identifier: Apache-2.0
"""What a base is: how the weights of a model in floats are stored, and what the codes mean.

A base is one file of this folder: a class, and the op `dequantise_NAME` with its cases. `encode`
makes the codes once, when a bundle is compiled, and the op is their whole meaning from then on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from gsqc.named import Named
from gsqc.numerics.formats import GROUP, LEAST_EXPONENT

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]


class Part(NamedTuple):
    """Rows of a weight in codes.

    arrays  the arguments of the op, in its order, by their names in the bundle
    meant   what they mean, as float64
    exact   what was coded, in the same shape: `meant` less this is what was lost
    """

    arrays: dict[str, Array]
    meant: Wide
    exact: Wide


class Base(Named, ABC):
    """How float weights are stored. A subclass is a frozen dataclass."""

    bits: ClassVar[int]
    """W in `--bits W-A-G`: bits of a code."""
    default: ClassVar[bool] = False
    """Whether it is the base of its bits where none is asked for."""

    @staticmethod
    @abstractmethod
    def encode(wide: Wide) -> Part:
        """float64 [n, k], some rows of a weight -> their codes. Each row is coded by itself."""


def in_blocks(weight: Wide, block: int) -> Wide:
    """[n, k] -> [n, blocks, block], padded with zeros."""
    rows, columns = weight.shape
    padded: Wide = np.pad(weight, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)


def pack(numbers: Array, width: int = 4) -> Array:
    """Numbers in [0, 2^width) [n, k] -> int8 [n, k·width/8], as `dequantise.unpack` reads them."""
    packed = np.zeros((len(numbers), numbers.shape[1] * width // 8), np.uint8)
    for place, part in enumerate(np.split(numbers, 8 // width, 1)):
        packed |= (part << (place * width)).astype(np.uint8)
    return packed.view(np.int8)


def mantissas(values: Wide, bits: int) -> tuple[Array, Array]:
    """values [..., n] -> (m, e [..., 1]), |m| ≤ 2^(bits-1) - 1, the least e; rounds half up."""
    limit = 2 ** (bits - 1) - 1
    top = np.abs(values).max(-1, keepdims=True)
    e = np.where(top > 0, np.frexp(top)[1] - (bits - 1), LEAST_EXPONENT).clip(LEAST_EXPONENT, 127)
    m = np.floor(np.ldexp(values, -e) + 0.5).clip(-limit, limit)
    return m.astype(np.int32), e


def encode_groups(wide: Wide, bits: int) -> Part:
    """Mantissas, 32 to an exponent: packed if they have 4 bits."""
    blocks = in_blocks(wide, GROUP)
    m, e = mantissas(blocks, bits)
    flat = m.reshape(len(wide), -1)
    codes = pack(flat & 15) if bits == 4 else flat.astype(np.int8)
    arrays: dict[str, Array] = {"codes": codes, "exponents": e[..., 0].astype(np.int8)}
    return Part(arrays, np.ldexp(m.astype(np.float64), e), blocks)
