# SPDX-License-Identifier: Apache-2.0
"""Codes: how a bundle stores frozen weights, and how they are made from float32.

`base_codes` takes them from the blocks of a GGUF file instead, exactly.

A format of 4 bits packs two codes in a byte: the low nibble for the first half of the row, the high
nibble for the second. What codes mean is the op that `Codes.dequantise_op` names, and nothing else:
`Codes.float32` evaluates it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError
from gsqc.numerics.formats import GROUP, LEAST_EXPONENT
from gsqc.numerics.ops import dequantise
from gsqc.numerics.ops.registry import OPS, evaluate

Array = npt.NDArray[Any]
NF4_BLOCK = 64
_NF4_TOP = max(dequantise.NF4_INTEGERS)
_NEAREST_NF4 = np.searchsorted(
    np.add(dequantise.NF4_INTEGERS[1:], dequantise.NF4_INTEGERS[:-1]),
    np.arange(-2 * _NF4_TOP, 2 * _NF4_TOP + 1),
).astype(np.uint8)
"""The nearest level by twice the number, rounded up: borders between levels are whole halves."""
_PART = 1 << 20
"""Numbers that are coded at once."""


@dataclass(frozen=True)
class Codes:
    """A weight [N, K] as integer arrays.

    kind    the format: nf4, gse4, gse8, row16, or one of ggml's. Several of those, joined by +,
            are a layout that holds each of them.
    arrays  the arguments of the op `dequantise_op`, in its order
    shape   (N, K), the weight's own shape, without padding
    blocks  the attributes of `dequantise_blocks`, if that is the op
    lost    what making the codes lost: RMS of the difference over RMS of the weight, 0 for codes
            that are the file's own
    """

    kind: str
    arrays: dict[str, Array]
    shape: tuple[int, int]
    blocks: dict[str, Any] | None = None
    lost: float = 0.0

    @property
    def dequantise_op(self) -> str:
        """The name of the op that gives these codes their meaning."""
        return f"dequantise_{self.kind}" if self.blocks is None else "dequantise_blocks"

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of that op."""
        return {"columns": self.shape[1]} if self.blocks is None else self.blocks

    @property
    def bits_per_weight(self) -> float:
        """Bits stored for one weight, scales and padding included."""
        stored = sum(a.nbytes for a in self.arrays.values())
        return 8 * stored / (self.shape[0] * self.shape[1])

    def float32(self) -> npt.NDArray[np.float32]:
        """The weights as float32 [N, K], for reference: what the op gives, rounded once."""
        row = evaluate(OPS[self.dequantise_op], list(self.arrays.values()), self.attributes)
        wide: npt.NDArray[np.float64] = np.ldexp(row.m.astype(np.float64), row.e)
        return wide.astype(np.float32)


# ------------------------------------------------------------------------------------------------
# from float32


def require_finite(weight: Array, name: str = "a weight") -> None:
    """ModelError for infinities and NaN."""
    if not np.isfinite(weight).all():
        raise ModelError(
            f"{name} holds infinities or NaN", "take a checkpoint whose weights are finite"
        )


class _Part(NamedTuple):
    """Rows of a weight in codes: the arrays, what they mean as float64, and what was coded."""

    arrays: dict[str, Array]
    meant: npt.NDArray[np.float64]
    exact: npt.NDArray[np.float64]


def _encode(kind: str, weight: Array, encode: Callable[[npt.NDArray[np.float64]], _Part]) -> Codes:
    """Codes of float32 [N, K], or [K] as one row. `encode` gets some rows at a time as float64, so
    that what it needs beside them stays small.
    """
    matrix = np.atleast_2d(np.asarray(weight))
    rows, columns = matrix.shape
    size = max(1, _PART // columns)
    arrays: list[dict[str, Array]] = []
    difference = power = 0.0
    for start in range(0, rows, size):
        wide = matrix[start : start + size].astype(np.float64)
        require_finite(wide)
        part = encode(wide)
        arrays.append(part.arrays)
        difference += float(np.square(part.meant - part.exact).sum())
        power += float(np.square(part.exact).sum())
    joined = {key: np.concatenate([part[key] for part in arrays]) for key in arrays[0]}
    lost = math.sqrt(difference / power) if power else 0.0
    return Codes(kind, joined, (rows, columns), lost=lost)


def _blocks(weight: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    """[N, K] -> [N, blocks, block], padded with zeros."""
    rows, columns = weight.shape
    padded: npt.NDArray[np.float64] = np.pad(weight, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)


def pack(numbers: Array, width: int = 4) -> Array:
    """Numbers in [0, 2^width) [N, K] -> int8 [N, K·width/8], as `dequantise.unpack` reads them."""
    packed = np.zeros((len(numbers), numbers.shape[1] * width // 8), np.uint8)
    for place, part in enumerate(np.split(numbers, 8 // width, 1)):
        packed |= (part << (place * width)).astype(np.uint8)
    return packed.view(np.int8)


def _mantissas(values: npt.NDArray[np.float64], bits: int) -> tuple[Array, Array]:
    """values [..., n] -> (m, e [..., 1]), |m| ≤ 2^(bits-1) - 1, the least e; rounds half up."""
    limit = 2 ** (bits - 1) - 1
    top = np.abs(values).max(-1, keepdims=True)
    e = np.where(top > 0, np.frexp(top)[1] - (bits - 1), LEAST_EXPONENT).clip(LEAST_EXPONENT, 127)
    m = np.floor(np.ldexp(values, -e) + 0.5).clip(-limit, limit)
    return m.astype(np.int32), e


def encode_nf4(weight: Array) -> Codes:
    """float32 [N, K] -> NF4: the nearest level, in blocks of 64 numbers, or of 32 if 64 does not
    divide K.

    A block's scale, its largest magnitude / 32767, is rounded to 15 bits.
    """
    return _encode("nf4", weight, _nf4)


def _nf4(wide: npt.NDArray[np.float64]) -> _Part:
    rows, columns = wide.shape
    blocks = _blocks(wide, NF4_BLOCK if columns % NF4_BLOCK == 0 else GROUP)
    scale_m, scale_e = _mantissas(np.abs(blocks).max(-1, keepdims=True) / _NF4_TOP, 16)
    scale = np.ldexp(scale_m.astype(np.float64), scale_e)
    levels = np.asarray(dequantise.NF4_INTEGERS, np.float64)
    relative = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    doubled = np.ceil(relative * 2).clip(-2 * _NF4_TOP, 2 * _NF4_TOP).astype(np.int32)
    nibbles = _NEAREST_NF4[doubled + 2 * _NF4_TOP]
    arrays = {
        "codes": pack(nibbles.reshape(rows, -1)),
        "scale_m": scale_m[..., 0].astype(np.int16),
        "scale_e": scale_e[..., 0].astype(np.int8),
    }
    return _Part(arrays, levels[nibbles] * scale, blocks)


def _gse(wide: npt.NDArray[np.float64], bits: int) -> _Part:
    """Mantissas, 32 to an exponent: packed if they have 4 bits."""
    blocks = _blocks(wide, GROUP)
    m, e = _mantissas(blocks, bits)
    flat = m.reshape(len(wide), -1)
    codes = pack(flat & 15) if bits == 4 else flat.astype(np.int8)
    arrays: dict[str, Array] = {"codes": codes, "exponents": e[..., 0].astype(np.int8)}
    return _Part(arrays, np.ldexp(m.astype(np.float64), e), blocks)


def encode_gse4(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 4 bits, 32 to an exponent."""
    return _encode("gse4", weight, partial(_gse, bits=4))


def encode_gse8(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 8 bits, 32 to an exponent."""
    return _encode("gse8", weight, partial(_gse, bits=8))


def encode_row16(weight: Array) -> Codes:
    """float32 [K] or [N, K] -> mantissas of 16 bits, one exponent per row. Its loss is not told."""
    return replace(_encode("row16", weight, _row16), lost=0.0)


def _row16(wide: npt.NDArray[np.float64]) -> _Part:
    m, e = _mantissas(wide, 16)
    arrays: dict[str, Array] = {"codes": m.astype(np.int16), "exponents": e.astype(np.int8)}
    return _Part(arrays, np.ldexp(m.astype(np.float64), e), wide)


ENCODERS: dict[str, Callable[[Array], Codes]] = {
    "nf4": encode_nf4,
    "gse4": encode_gse4,
    "gse8": encode_gse8,
    "row16": encode_row16,
}
"""Formats that float weights can be stored in."""
