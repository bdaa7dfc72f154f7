# SPDX-License-Identifier: Apache-2.0
"""Codes from the blocks of a GGUF file, exactly; and the choice between them and float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsqc.errors import ModelError, OptionError
from gsqc.models.codes import ENCODERS, Array, Codes, pack
from gsqc.models.loaded import WeightSource
from gsqc.numerics.formats import GROUP

_HALF_FRACTION_BITS = 10
_HALF_BIAS = 25  # of the exponent field, for a mantissa that is an integer


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
    return pack(nibbles.reshape(len(quants), -1))


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


def base_codes(weights: WeightSource, name: str, kind: str) -> Codes:
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
