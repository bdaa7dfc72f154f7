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
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError
from gsqc.numerics.formats import GROUP, LEAST_EXPONENT
from gsqc.numerics.ops import dequantise
from gsqc.numerics.ops.registry import OPS, evaluate

Array = npt.NDArray[Any]
NF4_BLOCK = 64


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


def _checked(weight: Array) -> npt.NDArray[np.float64]:
    """The weight as float64 [N, K]; a vector becomes one row."""
    wide: npt.NDArray[np.float64] = np.atleast_2d(np.asarray(weight)).astype(np.float64)
    require_finite(wide)
    return wide


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


def _lost(exact: npt.NDArray[np.float64], coded: npt.NDArray[np.float64]) -> float:
    """RMS of the difference over RMS of the weight."""
    power = float(np.square(exact).sum())
    return math.sqrt(float(np.square(coded - exact).sum()) / power) if power else 0.0


def encode_nf4(weight: Array) -> Codes:
    """float32 [N, K] -> NF4: the nearest level, in blocks of 64 numbers, or of 32 if 64 does not
    divide K.

    A block's scale, its largest magnitude / 32767, is rounded to 15 bits.
    """
    wide = _checked(weight)
    rows, columns = wide.shape
    blocks = _blocks(wide, NF4_BLOCK if columns % NF4_BLOCK == 0 else GROUP)
    scale_m, scale_e = _mantissas(
        np.abs(blocks).max(-1, keepdims=True) / max(dequantise.NF4_INTEGERS), 16
    )
    scale = np.ldexp(scale_m.astype(np.float64), scale_e)
    levels = np.asarray(dequantise.NF4_INTEGERS, np.float64)
    relative = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    nibbles = np.searchsorted((levels[1:] + levels[:-1]) / 2, relative)
    arrays = {
        "codes": pack(nibbles.reshape(rows, -1)),
        "scale_m": scale_m[..., 0].astype(np.int16),
        "scale_e": scale_e[..., 0].astype(np.int8),
    }
    return Codes("nf4", arrays, (rows, columns), lost=_lost(blocks, levels[nibbles] * scale))


def _encode_gse(weight: Array, bits: int) -> Codes:
    """Mantissas as int32 [N, K], 32 to an exponent."""
    wide = _checked(weight)
    blocks = _blocks(wide, GROUP)
    m, e = _mantissas(blocks, bits)
    arrays = {"codes": m.reshape(len(wide), -1), "exponents": e[..., 0].astype(np.int8)}
    lost = _lost(blocks, np.ldexp(m.astype(np.float64), e))
    return Codes(f"gse{bits}", arrays, (wide.shape[0], wide.shape[1]), lost=lost)


def encode_gse4(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 4 bits, 32 to an exponent."""
    made = _encode_gse(weight, 4)
    return replace(made, arrays={**made.arrays, "codes": pack(made.arrays["codes"] & 15)})


def encode_gse8(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 8 bits, 32 to an exponent."""
    made = _encode_gse(weight, 8)
    return replace(made, arrays={**made.arrays, "codes": made.arrays["codes"].astype(np.int8)})


def encode_row16(weight: Array) -> Codes:
    """float32 [K] or [N, K] -> mantissas of 16 bits, one exponent per row."""
    wide = _checked(weight)
    m, e = _mantissas(wide, 16)
    return Codes(
        "row16",
        {"codes": m.astype(np.int16), "exponents": e.astype(np.int8)},
        (wide.shape[0], wide.shape[1]),
    )


ENCODERS: dict[str, Callable[[Array], Codes]] = {
    "nf4": encode_nf4,
    "gse4": encode_gse4,
    "gse8": encode_gse8,
    "row16": encode_row16,
}
"""Formats that float weights can be stored in."""
