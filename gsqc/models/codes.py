# SPDX-License-Identifier: Apache-2.0
"""Codes: how a bundle stores frozen weights. Made when compiling: from float32, or exactly from a
GGUF file's blocks.

A format of 4 bits packs two codes in a byte: the low nibble for the first half of the row, the high
nibble for the second. What codes mean is the op `dequantise_<kind>`, and nothing else:
`Codes.float32` evaluates that op.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError, OptionError
from gsqc.numerics.formats import GROUP, LEAST_EXPONENT
from gsqc.numerics.ops import dequantise
from gsqc.numerics.ops.registry import OPS, evaluate

Array = npt.NDArray[Any]
NF4_BLOCK = 64
_HALF_FRACTION_BITS = 10
_HALF_BIAS = 25  # of the exponent field, for a mantissa that is an integer


@dataclass(frozen=True)
class Codes:
    """A weight [N, K] as integer arrays.

    kind    the format: nf4, q4_1, q4_0, q8_0, gse4, gse8 or row16
    arrays  the arguments of the op `dequantise_op`, in its order
    shape   (N, K), the weight's own shape, without padding
    """

    kind: str
    arrays: dict[str, Array]
    shape: tuple[int, int]

    @property
    def dequantise_op(self) -> str:
        """The name of the op that gives these codes their meaning."""
        return f"dequantise_{self.kind}"

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of that op."""
        return {"columns": self.shape[1]}

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


def _checked(weight: Array) -> npt.NDArray[np.float64]:
    """The weight as float64 [N, K]; a vector becomes one row."""
    wide: npt.NDArray[np.float64] = np.atleast_2d(np.asarray(weight)).astype(np.float64)
    if not np.isfinite(wide).all():
        raise ModelError(
            "a weight holds infinities or NaN", "take a checkpoint whose weights are finite"
        )
    return wide


def _blocks(weight: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    """[N, K] -> [N, blocks, block], padded with zeros."""
    rows, columns = weight.shape
    padded: npt.NDArray[np.float64] = np.pad(weight, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)


def _pack(nibbles: Array) -> Array:
    """Numbers in [0, 16) [N, K] -> int8 [N, K/2]."""
    half = nibbles.shape[1] // 2
    packed: Array = (nibbles[:, :half] | (nibbles[:, half:] << 4)).astype(np.uint8).view(np.int8)
    return packed


def _mantissas(values: npt.NDArray[np.float64], bits: int) -> tuple[Array, Array]:
    """values [..., n] -> (m, e [..., 1]) with |m| ≤ 2^(bits-1) - 1 and the least e; rounds half up."""
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
        "codes": _pack(nibbles.reshape(rows, -1)),
        "scale_m": scale_m[..., 0].astype(np.int16),
        "scale_e": scale_e[..., 0].astype(np.int8),
    }
    return Codes("nf4", arrays, (rows, columns))


def _encode_gse(weight: Array, bits: int) -> tuple[Array, Array, tuple[int, int]]:
    wide = _checked(weight)
    m, e = _mantissas(_blocks(wide, GROUP), bits)
    return m.reshape(len(wide), -1), e[..., 0].astype(np.int8), (wide.shape[0], wide.shape[1])


def encode_gse4(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 4 bits, 32 to an exponent."""
    m, e, shape = _encode_gse(weight, 4)
    return Codes("gse4", {"codes": _pack(m & 15), "exponents": e}, shape)


def encode_gse8(weight: Array) -> Codes:
    """float32 [N, K] -> mantissas of 8 bits, 32 to an exponent."""
    m, e, shape = _encode_gse(weight, 8)
    return Codes("gse8", {"codes": m.astype(np.int8), "exponents": e}, shape)


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


# ------------------------------------------------------------------------------------------------
# from GGUF blocks


def _split_half(raw: Array) -> tuple[Array, Array]:
    """uint8 [N, blocks, 2], a little-endian fp16 -> its exact value: int16 mantissa, int8 exponent
    [N, blocks].
    """
    pattern = raw[..., 0].astype(np.int32) | (raw[..., 1].astype(np.int32) << 8)
    field, fraction = (pattern >> _HALF_FRACTION_BITS) & 31, pattern & (2**_HALF_FRACTION_BITS - 1)
    if (field == 31).any():
        raise ModelError(
            "a GGUF block has a scale that is not finite", "the file is damaged: fetch it again"
        )
    mantissa = np.where(field > 0, fraction + 2**_HALF_FRACTION_BITS, fraction)
    signed = np.where(pattern >> 15 == 1, -mantissa, mantissa)
    return signed.astype(np.int16), (np.maximum(field, 1) - _HALF_BIAS).astype(np.int8)


def _gguf_blocks(raw: Array, kind: str, block_bytes: int) -> Array:
    """uint8 [N, bytes] -> [N, blocks, block_bytes]."""
    if raw.ndim != 2 or raw.dtype != np.uint8 or raw.shape[1] % block_bytes:
        raise ModelError(
            f"a {kind} tensor has rows of {raw.shape[-1]} bytes, not a multiple of {block_bytes}",
            "the file is damaged: fetch it again",
        )
    return raw.reshape(raw.shape[0], -1, block_bytes)


def _repack(quants: Array) -> Array:
    """uint8 [N, blocks, 16], where byte j holds numbers j and j + 16 of its block -> int8 [N, K/2]
    in our order.
    """
    nibbles = np.concatenate([quants & 15, quants >> 4], axis=-1)
    return _pack(nibbles.reshape(len(quants), -1))


def from_q4_1(raw: Array) -> Codes:
    """uint8 [N, bytes] of ggml's Q4_1 (fp16 scale, fp16 offset, 16 bytes of nibbles per 32
    numbers), exactly.
    """
    blocks = _gguf_blocks(raw, "Q4_1", 20)
    scale_m, scale_e = _split_half(blocks[..., 0:2])
    offset_m, offset_e = _split_half(blocks[..., 2:4])
    arrays = {
        "codes": _repack(blocks[..., 4:]),
        "scale_m": scale_m,
        "scale_e": scale_e,
        "offset_m": offset_m,
        "offset_e": offset_e,
    }
    return Codes("q4_1", arrays, (len(raw), blocks.shape[1] * GROUP))


def from_q4_0(raw: Array) -> Codes:
    """uint8 [N, bytes] of ggml's Q4_0 (fp16 scale, 16 bytes of nibbles per 32 numbers), exactly."""
    blocks = _gguf_blocks(raw, "Q4_0", 18)
    scale_m, scale_e = _split_half(blocks[..., 0:2])
    arrays = {"codes": _repack(blocks[..., 2:]), "scale_m": scale_m, "scale_e": scale_e}
    return Codes("q4_0", arrays, (len(raw), blocks.shape[1] * GROUP))


def from_q8_0(raw: Array) -> Codes:
    """uint8 [N, bytes] of ggml's Q8_0 (fp16 scale, 32 int8 per 32 numbers), exactly."""
    blocks = _gguf_blocks(raw, "Q8_0", 34)
    scale_m, scale_e = _split_half(blocks[..., 0:2])
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8).reshape(len(raw), -1)
    return Codes(
        "q8_0", {"codes": codes, "scale_m": scale_m, "scale_e": scale_e}, (len(raw), codes.shape[1])
    )


GGUF_READERS: dict[str, Callable[[Array], Codes]] = {
    "q4_1": from_q4_1,
    "q4_0": from_q4_0,
    "q8_0": from_q8_0,
}
"""ggml types whose own codes are kept, by their names in lower case."""


class Weights(Protocol):
    """What a model's reader gives, by parameter name."""

    def float32(self, name: str) -> Array:
        """The weight as float32."""

    def raw_blocks(self, name: str) -> Array:
        """uint8 [N, bytes]: the rows of a weight that a GGUF file stores in a type of
        `GGUF_READERS`.
        """


def norm_codes(weight: Array) -> Codes:
    """Codes of a norm's weight, float32 [n]."""
    return encode_row16(weight)


def base_codes(weights: Weights, name: str, kind: str) -> Codes:
    """Codes of the frozen weight `name`: made from float32, or the file's own if `kind` is of
    `GGUF_READERS`.
    """
    if kind in GGUF_READERS:
        return GGUF_READERS[kind](weights.raw_blocks(name))
    if kind not in ENCODERS:
        raise OptionError(
            f"unknown base format {kind}", f"one of: {', '.join([*ENCODERS, *GGUF_READERS])}"
        )
    return ENCODERS[kind](weights.float32(name))
