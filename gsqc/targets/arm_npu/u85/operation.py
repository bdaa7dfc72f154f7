# SPDX-License-Identifier: Apache-2.0
"""The typed form of an operation of the command stream: what `decode` makes of the registers at the
moment it starts.

Axes are named as the hardware does: a feature map has a height, a width and channels (y, x, c),
row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.targets.arm_npu.u85.registers import (
    AccumulatorInput,
    ElementwiseMode,
    Lookup,
    PoolMode,
    Rounding,
    Storage,
    Transpose,
)


@dataclass(frozen=True)
class FeatureMap:
    """Where the elements of a feature map lie.

    `dtype` is numpy's name. In `TILE2X2`, element (y, x, c) lies in the tile that `height0`,
    `height1` and `width0` select, at base + y·stride_y + x·stride_x + c·itemsize counted from that
    tile's corner; in bricks (NHCWB16) at base + y·stride_y + (c // 16)·stride_c + x·16·itemsize +
    (c % 16)·itemsize. `CHAINED`: `region` is the number of the chaining buffer. `NONE`: the value
    is `scalar`. `broadcast` has bit 0 for height, 1 for width, 2 for channels.
    """

    storage: Storage
    dtype: str
    bricks: bool = False
    region: int = 0
    bases: tuple[int, int, int, int] = (0, 0, 0, 0)
    stride_y: int = 0
    stride_x: int = 0
    stride_c: int = 0
    height0: int = 0
    height1: int = 0
    width0: int = 0
    zero_point: int = 0
    broadcast: int = 0
    scalar: int = 0


@dataclass(frozen=True)
class Scale:
    """value · factor, shifted right by `shift` with this rounding.

    Per channel, factor, shift and a bias come from memory.
    """

    factor: int
    shift: int
    rounding: Rounding
    per_channel: bool = False
    region: int = 0
    address: int = 0
    length: int = 0


@dataclass(frozen=True)
class Output:
    """The output: its size before the transpose, and what is done to a value on its way out."""

    height: int
    width: int
    depth: int
    map: FeatureMap
    transpose: Transpose
    scale: Scale
    lookup: Lookup
    table: int
    clip: tuple[int, int] | None


@dataclass(frozen=True)
class Accumulator:
    """The accumulator's width, what it starts from, and whether it is written out."""

    bits: int
    source: AccumulatorInput
    output: bool


@dataclass(frozen=True)
class Kernel:
    """The window of a convolution or pool, and its steps."""

    height: int
    width: int
    stride_y: int
    stride_x: int


@dataclass(frozen=True)
class Weights:
    """Compressed constant weights, one stream (address, length) per core.

    Their order depends on `microblock` (a code), on the depth of an output block, and on the NPU's
    `macs`.
    """

    region: int
    streams: tuple[tuple[int, int], ...]
    fast: bool
    part_kernel_first: bool
    microblock: int
    ofm_block: int
    macs: int


@dataclass(frozen=True)
class Convolution:
    """OFM[y, x, n] = Σ_k IFM[y, x, k] · W[n, k], where W is IFM2 (width n, channel k) or constant
    weights.
    """

    ifm: FeatureMap
    ifm_depth: int
    weights: FeatureMap | Weights
    accumulator: Accumulator
    output: Output


@dataclass(frozen=True)
class Pool:
    """A reduction over a window (MAX, MIN, SUM), over channels (REDUCE_SUM), or a move of IFM2
    (NONE).
    """

    mode: PoolMode
    ifm: FeatureMap
    ifm_depth: int
    ifm2: FeatureMap | None
    kernel: Kernel
    accumulator: Accumulator
    output: Output


@dataclass(frozen=True)
class Elementwise:
    """One operation on each element of `ifm`, or of `ifm` and `ifm2`, which are broadcast."""

    mode: ElementwiseMode
    ifm: FeatureMap
    ifm2: FeatureMap | None
    output: Output


@dataclass(frozen=True)
class Dma:
    """size1 × size0 copies of `length` bytes.

    `indexed` names the side whose inner counter is replaced by int32 indices that lie in memory
    ("source": gather, "destination": scatter).
    `src_lookup` and `dst_lookup` say that the address is in the memory of the lookup tables.
    """

    src_region: int
    src: int
    src_lookup: bool
    src_strides: tuple[int, int]
    dst_region: int
    dst: int
    dst_lookup: bool
    dst_strides: tuple[int, int]
    length: int
    sizes: tuple[int, int]
    indexed: str | None = None
    index_region: int = 0
    index: int = 0
    index_max: int = 0


Operation = Convolution | Pool | Elementwise | Dma
