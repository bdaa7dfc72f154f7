# SPDX-License-Identifier: Apache-2.0
"""Weights in the block formats of ggml, and one layout that holds several of them exactly.

Files mix formats: Q4_K_M has a weight in Q4_K in most layers and in Q6_K in some. Layers share
code, so a bundle stores the weight of all layers in one layout, the least that holds each of them.
The op `dequantise_blocks` gives it its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from gsqc.models.codes import Array, Codes
from gsqc.numerics.bases.base import pack
from gsqc.numerics.ops.dequantise_blocks import LEVELS

_LEAST_EXPONENT = -128
"""Of an offset of zero: it must not decide the exponent of a sum."""
_PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 8: (8,)}
"""How codes of so many bits are stored."""
_PART = 16
"""Each part of a plane has a multiple of so many numbers: a vector must not cross a border."""


@dataclass(frozen=True)
class Layout:
    """What a format of blocks has.

    low, high  the least and the largest code
    unit       numbers that share a scale
    block      numbers that share a step, 0 if there are no steps
    step_bits  steps are at most 2^step_bits in magnitude
    offset     whether there are offsets
    levels     the name of the levels that codes stand for, or ""
    """

    low: int
    high: int
    unit: int
    block: int = 0
    step_bits: int = 0
    offset: bool = False
    levels: str = ""

    def widths(self, columns: int) -> tuple[int, ...]:
        """The bits of each plane, for rows of so many numbers."""
        if self.levels:
            return _PLANES[4]
        count = self.high - self.low + 1
        return next(
            planes
            for bits, planes in _PLANES.items()
            if bits == 8
            or (count <= 1 << bits and all(columns * w // 8 % _PART == 0 for w in planes))
        )

    def attributes(self, columns: int) -> dict[str, Any]:
        """The attributes of `dequantise_blocks`, for rows of so many numbers."""
        widths = self.widths(columns)
        plain = bool(self.levels) or widths == (8,)
        return {
            "widths": list(widths),
            "bias": 0 if plain else self.low,
            "levels": self.levels,
            "step_bits": self.step_bits,
            "offset": self.offset,
        }


def joined(layouts: Sequence[Layout]) -> Layout:
    """The least layout that holds all of these."""
    return reduce(_join, layouts)


def _join(a: Layout, b: Layout) -> Layout:
    steps = [x.block for x in (a, b) if x.block]
    unit = min(a.unit, b.unit)
    return Layout(
        low=min(a.low, b.low),
        high=max(a.high, b.high),
        unit=unit,
        block=min(*steps, unit) if steps else 0,
        step_bits=max(a.step_bits, b.step_bits),
        offset=a.offset or b.offset,
        levels=a.levels if a.levels == b.levels else "",
    )


@dataclass(frozen=True)
class Blocks:
    """A weight [N, K] in one of ggml's formats: code · step · scale + offset step · offset.

    codes         int16 [N, K]: for formats with levels, the levels
    scale         mantissa int16 and exponent int8, [N, K/unit] each
    steps         int8 [N, K/block], or None
    offset        like scale, or None
    offset_steps  like steps
    """

    layout: Layout
    codes: Array
    scale: tuple[Array, Array]
    steps: Array | None = None
    offset: tuple[Array, Array] | None = None
    offset_steps: Array | None = None


def stored(blocks: Blocks, kind: str, layout: Layout) -> Codes:
    """The arrays of a bundle. `layout` is that of the blocks, or one that holds more."""
    rows, columns = blocks.codes.shape
    widths = layout.widths(columns)
    codes = blocks.codes.astype(np.int32)
    if layout.levels:
        codes = _level_numbers(layout.levels)[codes + 128]
    elif widths != (8,):
        codes = codes - layout.low
    arrays, done = {}, 0
    for number, width in enumerate(widths):
        part = codes.astype(np.int8) if width == 8 else pack((codes >> done) % (1 << width), width)
        arrays["codes" if number == 0 else "codes_high"] = part
        done += width
    units = blocks.layout.unit // layout.unit
    arrays |= _split("scale", tuple(np.repeat(part, units, 1) for part in blocks.scale))
    if layout.block:
        arrays["steps"] = _steps(blocks, blocks.steps, layout, 1)
    if layout.offset:
        offset = blocks.offset or _no_offset(blocks.scale)
        arrays |= _split("offset", tuple(np.repeat(part, units, 1) for part in offset))
        if layout.block:
            own = 1 if blocks.offset is not None else 0
            arrays["offset_steps"] = _steps(blocks, blocks.offset_steps, layout, own)
    return Codes(kind, arrays, (rows, columns), layout.attributes(columns))


def _split(name: str, parts: tuple[Array, ...]) -> dict[str, Array]:
    return {f"{name}_m": parts[0].astype(np.int16), f"{name}_e": parts[1].astype(np.int8)}


def _no_offset(scale: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.zeros_like(scale[0]), np.full_like(scale[1], _LEAST_EXPONENT)


def _steps(blocks: Blocks, steps: Array | None, layout: Layout, missing: int) -> Array:
    """Steps for the layout's blocks. Blocks without steps have `missing` everywhere."""
    rows, columns = blocks.codes.shape
    if steps is None:
        return np.full((rows, columns // layout.block), missing, np.int8)
    return np.repeat(steps, blocks.layout.block // layout.block, 1).astype(np.int8)


def _level_numbers(levels: str) -> Array:
    """The number of each level, at the level + 128."""
    numbers = np.zeros(256, np.int32)
    for number, level in reversed(list(enumerate(LEVELS[levels]))):
        numbers[level + 128] = number
    return numbers
