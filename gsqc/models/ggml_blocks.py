# SPDX-License-Identifier: Apache-2.0
"""The blocks of a GGUF file as codes, steps, scales and offsets, exactly.

How each format packs them: https://github.com/ggml-org/ggml, dequantize_row_* and block_*.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsqc.errors import ModelError
from gsqc.models.block_layout import Blocks, Layout
from gsqc.models.codes import Array
from gsqc.numerics.ops.dequantise_blocks import LEVELS

_HALF_FRACTION_BITS = 10
_HALF_BIAS = 25  # of the exponent field, for a mantissa that is an integer

LAYOUTS = {
    "q4_0": Layout(-8, 7, 32),
    "q4_1": Layout(0, 15, 32, offset=True),
    "q5_0": Layout(-16, 15, 32),
    "q5_1": Layout(0, 31, 32, offset=True),
    "q8_0": Layout(-128, 127, 32),
    "q2_k": Layout(0, 3, 256, 16, 4, offset=True),
    "q3_k": Layout(-4, 3, 256, 16, 5),
    "q4_k": Layout(0, 15, 256, 32, 6, offset=True),
    "q5_k": Layout(0, 31, 256, 32, 6, offset=True),
    "q6_k": Layout(-32, 31, 256, 16, 7),
    "tq1_0": Layout(-1, 1, 256),
    "tq2_0": Layout(-1, 1, 256),
    "iq4_nl": Layout(-127, 113, 32, levels="iq4_nl"),
    "iq4_xs": Layout(-127, 113, 256, 32, 5, levels="iq4_nl"),
    "mxfp4": Layout(-12, 12, 32, levels="e2m1"),
    "nvfp4": Layout(-12, 12, 16, levels="e2m1"),
    "gse8": Layout(-127, 127, 32),
}
"""ggml's formats by their names in lower case, and gsqc's own of 8 bits."""


def split_half(raw: Array) -> tuple[Array, Array]:
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


def _negative(half: tuple[Array, Array]) -> tuple[Array, Array]:
    return -half[0], half[1]


def _bits(raw: Array, width: int, run: int) -> Array:
    """uint8 [N, S, n] -> the parts of `width` bits, int16 [N, S, n·8/width].

    Each run of bytes has first the lowest bits of all its bytes, then the next.
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(-1, 1)
    parts: Array = (raw.reshape(*raw.shape[:2], -1, 1, run) >> shifts) & np.uint8((1 << width) - 1)
    return parts.reshape(*raw.shape[:2], -1).astype(np.int16)


def _flat(x: Array) -> Array:
    """[N, S, n] -> [N, S·n]."""
    return x.reshape(len(x), -1)


def _fifth_bits(raw: Array) -> Array:
    """uint8 [N, S, 4], bit j of which belongs to number j -> int16 [N, S, 32]."""
    return np.unpackbits(raw, axis=-1, bitorder="little").astype(np.int16)


def _q4_0(x: Array) -> Blocks:
    codes = _bits(x[..., 2:], 4, 16) - 8
    return Blocks(LAYOUTS["q4_0"], _flat(codes), split_half(x[..., :2]))


def _q4_1(x: Array) -> Blocks:
    scale, offset = split_half(x[..., :2]), split_half(x[..., 2:4])
    return Blocks(LAYOUTS["q4_1"], _flat(_bits(x[..., 4:], 4, 16)), scale, offset=offset)


def _q5_0(x: Array) -> Blocks:
    codes = (_bits(x[..., 6:], 4, 16) | (_fifth_bits(x[..., 2:6]) << 4)) - 16
    return Blocks(LAYOUTS["q5_0"], _flat(codes), split_half(x[..., :2]))


def _q5_1(x: Array) -> Blocks:
    codes = _bits(x[..., 8:], 4, 16) | (_fifth_bits(x[..., 4:8]) << 4)
    scale, offset = split_half(x[..., :2]), split_half(x[..., 2:4])
    return Blocks(LAYOUTS["q5_1"], _flat(codes), scale, offset=offset)


def _q8_0(x: Array) -> Blocks:
    codes = np.ascontiguousarray(x[..., 2:]).view(np.int8)
    return Blocks(LAYOUTS["q8_0"], _flat(codes), split_half(x[..., :2]))


def _q2_k(x: Array) -> Blocks:
    steps, offset_steps = _flat(x[..., :16] & 15), _flat(x[..., :16] >> 4)
    codes, scale = _flat(_bits(x[..., 16:80], 2, 32)), split_half(x[..., 80:82])
    offset = _negative(split_half(x[..., 82:84]))
    return Blocks(LAYOUTS["q2_k"], codes, scale, steps, offset, offset_steps)


def _q3_k(x: Array) -> Blocks:
    high, low = _bits(x[..., :32], 1, 32), _bits(x[..., 32:96], 2, 32)
    steps = _bits(x[..., 96:104], 4, 8) | (_bits(x[..., 104:108], 2, 4) << 4)
    codes, scale = low | (high << 2), split_half(x[..., 108:110])
    return Blocks(LAYOUTS["q3_k"], _flat(codes) - 4, scale, _flat(steps) - 32)


def _six_bits(x: Array) -> tuple[Array, Array]:
    """uint8 [N, S, 12] of Q4_K and Q5_K -> steps and offset steps, [N, S·8] each."""
    first, second, rest = x[..., :4], x[..., 4:8], x[..., 8:]
    steps = np.concatenate([first & 63, (rest & 15) | (first >> 6 << 4)], -1)
    offset_steps = np.concatenate([second & 63, (rest >> 4) | (second >> 6 << 4)], -1)
    return _flat(steps), _flat(offset_steps)


def _q4_k(x: Array) -> Blocks:
    scale, offset = split_half(x[..., :2]), _negative(split_half(x[..., 2:4]))
    steps, offset_steps = _six_bits(x[..., 4:16])
    codes = _flat(_bits(x[..., 16:], 4, 32))
    return Blocks(LAYOUTS["q4_k"], codes, scale, steps, offset, offset_steps)


def _q5_k(x: Array) -> Blocks:
    scale, offset = split_half(x[..., :2]), _negative(split_half(x[..., 2:4]))
    steps, offset_steps = _six_bits(x[..., 4:16])
    codes = _flat(_bits(x[..., 48:], 4, 32) | (_bits(x[..., 16:48], 1, 32) << 4))
    return Blocks(LAYOUTS["q5_k"], codes, scale, steps, offset, offset_steps)


def _q6_k(x: Array) -> Blocks:
    codes = (_bits(x[..., :128], 4, 64) | (_bits(x[..., 128:192], 2, 32) << 4)) - 32
    steps = np.ascontiguousarray(x[..., 192:208]).view(np.int8)
    return Blocks(LAYOUTS["q6_k"], _flat(codes), split_half(x[..., 208:]), _flat(steps))


def _threes(raw: Array, count: int, run: int) -> Array:
    """uint8 [N, S, n] of `count` digits of base 3 a byte -> codes -1, 0, 1, [N, S, n·count]."""
    powers = (3 ** np.arange(count)).astype(np.uint8).reshape(-1, 1)
    digits: Array = raw.reshape(*raw.shape[:2], -1, 1, run) * powers  # modulo 256, as in ggml
    codes: Array = ((digits.astype(np.int16) * 3) >> 8).reshape(*raw.shape[:2], -1) - 1
    return codes


def _tq1_0(x: Array) -> Blocks:
    parts = [_threes(x[..., :32], 5, 32), _threes(x[..., 32:48], 5, 16)]
    codes = np.concatenate([*parts, _threes(x[..., 48:52], 4, 4)], -1)
    return Blocks(LAYOUTS["tq1_0"], _flat(codes), split_half(x[..., 52:]))


def _tq2_0(x: Array) -> Blocks:
    return Blocks(LAYOUTS["tq2_0"], _flat(_bits(x[..., :64], 2, 32)) - 1, split_half(x[..., 64:]))


def _levels(name: str, numbers: Array) -> Array:
    return np.array(LEVELS[name], np.int16)[numbers]


def _iq4_nl(x: Array) -> Blocks:
    codes = _levels("iq4_nl", _flat(_bits(x[..., 2:], 4, 16)))
    return Blocks(LAYOUTS["iq4_nl"], codes, split_half(x[..., :2]))


def _iq4_xs(x: Array) -> Blocks:
    high = (x[..., 2, None] | (x[..., 3, None].astype(np.int16) << 8)) >> np.arange(0, 16, 2)
    steps = (_bits(x[..., 4:8], 4, 1) | ((high & 3) << 4)) - 32
    codes = _levels("iq4_nl", _flat(_bits(x[..., 8:], 4, 16)))
    return Blocks(LAYOUTS["iq4_xs"], codes, split_half(x[..., :2]), _flat(steps))


def _mxfp4(x: Array) -> Blocks:
    exponent = _flat(x[..., :1]).astype(np.int16) - 128  # the levels are doubled
    codes = _levels("e2m1", _flat(_bits(x[..., 1:], 4, 16)))
    return Blocks(LAYOUTS["mxfp4"], codes, (np.ones_like(exponent), exponent))


def _nvfp4(x: Array) -> Blocks:
    byte = _flat(x[..., :4]).astype(np.int16)
    field, fraction = byte >> 3 & 15, byte & 7
    mantissa = np.where(field > 0, fraction + 8, fraction)
    mantissa = np.where(byte == 0x7F, 0, mantissa)  # not a number, which ggml reads as 0
    exponent = np.maximum(field, 1) - 11  # bias 7, three bits of fraction, doubled levels
    codes = _levels("e2m1", _flat(_bits(x[..., 4:], 4, 8)))
    return Blocks(LAYOUTS["nvfp4"], codes, (mantissa, exponent))


READERS: dict[str, tuple[int, Callable[[Array], Blocks]]] = {
    "q4_0": (18, _q4_0),
    "q4_1": (20, _q4_1),
    "q5_0": (22, _q5_0),
    "q5_1": (24, _q5_1),
    "q8_0": (34, _q8_0),
    "q2_k": (84, _q2_k),
    "q3_k": (110, _q3_k),
    "q4_k": (144, _q4_k),
    "q5_k": (176, _q5_k),
    "q6_k": (210, _q6_k),
    "tq1_0": (54, _tq1_0),
    "tq2_0": (66, _tq2_0),
    "iq4_nl": (18, _iq4_nl),
    "iq4_xs": (136, _iq4_xs),
    "mxfp4": (17, _mxfp4),
    "nvfp4": (36, _nvfp4),
}
"""The bytes of a block of each format, and its reader."""
READABLE = ", ".join([*map(str.upper, READERS), "F32, F16 and BF16"])
"""For messages."""


def blocks_of(raw: Array, kind: str) -> Blocks:
    """uint8 [N, bytes] in one of READERS -> its blocks. Raises ModelError for damaged ones."""
    size, reader = READERS[kind]
    if raw.ndim != 2 or raw.dtype != np.uint8 or raw.shape[1] % size:
        raise ModelError(
            f"a {kind.upper()} tensor has rows of {raw.shape[-1]} bytes, not a multiple of {size}",
            "the file is damaged: fetch it again",
        )
    return reader(raw.reshape(len(raw), -1, size))
