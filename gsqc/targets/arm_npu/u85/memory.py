# SPDX-License-Identifier: Apache-2.0
"""The NPU's memory: regions of bytes, each byte known to be written or not, and feature maps in
them.

Memory starts poisoned. A DMA moves bytes together with their state, so that padding may be copied.
An operation that computes with a byte that nobody wrote is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.operation import Dma, FeatureMap
from gsqc.targets.arm_npu.u85.register_file import HINT, unmodelled

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]
POISON = 0xA5
BRICK = 16
LOOKUP_REGION = -1
"""Number of the lookup tables' memory. The stream's own regions are 0 to 7."""
LOOKUP_BYTES = 2048


class Region:
    """Bytes, whether each was written, and whether the program may write them."""

    def __init__(self, size: int, contents: bytes | None = None) -> None:
        # Poison is no value of a usual tensor, so a wrong read shows even where no check sees it.
        self.data = np.full(size, POISON, np.uint8)
        self.written = np.zeros(size, np.bool_)
        self.constant = contents is not None
        if contents is not None:
            self.data[: len(contents)] = np.frombuffer(contents, np.uint8)
            self.written[:] = True


class Memory:
    """The regions by number."""

    def __init__(self, regions: dict[int, Region]) -> None:
        self._regions = {**regions, LOOKUP_REGION: Region(LOOKUP_BYTES)}

    @property
    def largest(self) -> int:
        """Bytes of the largest region."""
        return max(region.data.size for region in self._regions.values())

    def region(self, number: int, *, write: bool = False) -> Region:
        """A region that exists and, for a write, may be written."""
        if number not in self._regions:
            raise CommandStreamError(f"region {number} does not exist", HINT)
        region = self._regions[number]
        # The program's next run reads the same constants.
        if write and region.constant:
            raise CommandStreamError(f"region {number} holds constants, and is written", HINT)
        return region

    def bytes_at(self, number: int, address: int, length: int) -> bytes:
        """`length` written bytes."""
        region = self.region(number)
        _check_range(number, region, address, address + length)
        _check_written(number, region.written[address : address + length])
        return region.data[address : address + length].tobytes()

    def put(self, number: int, address: int, data: bytes) -> None:
        """Write bytes from outside, as the host does with a program's inputs."""
        region = self.region(number, write=True)
        _check_range(number, region, address, address + len(data))
        region.data[address : address + len(data)] = np.frombuffer(data, np.uint8)
        region.written[address : address + len(data)] = True

    def read(self, fm: FeatureMap, shape: Shape) -> Array:
        """The elements [height, width, depth] of a feature map, in its own dtype."""
        region = self.region(fm.region)
        values = np.empty(_checked(shape, fm, region), fm.dtype)
        # The state of all bytes of an element is read as one unsigned number of its size.
        state = f"u{values.itemsize}"
        for tile, corner in _tiles(fm, shape):
            part = values[tile]
            for channels, view in _views(region.data, fm, corner, part.shape, fm.dtype):
                part[..., channels] = view.reshape(*part.shape[:2], -1)
            for _, view in _views(region.written, fm, corner, part.shape, state):
                _check_written(fm.region, view)
        return values

    def write(self, fm: FeatureMap, values: Array) -> None:
        """Write values [height, width, depth], which fit the map's dtype."""
        region = self.region(fm.region, write=True)
        values = values.astype(fm.dtype)
        _checked(values.shape, fm, region)
        state = f"u{values.itemsize}"
        for tile, corner in _tiles(fm, values.shape):
            part = values[tile]
            for channels, view in _views(region.data, fm, corner, part.shape, fm.dtype):
                view[...] = part[..., channels].reshape(view.shape)
            for _, view in _views(region.written, fm, corner, part.shape, state):
                view[...] = _all_written(state)

    def copy(self, dma: Dma) -> None:
        """Run a DMA row by row: bytes together with their state."""
        src_region = LOOKUP_REGION if dma.src_lookup else dma.src_region
        dst_region = LOOKUP_REGION if dma.dst_lookup else dma.dst_region
        source, target = self.region(src_region), self.region(dst_region, write=True)
        # Rows of no bytes would let a damaged stream loop for hours, so they count as one byte.
        if dma.sizes[0] * dma.sizes[1] * max(dma.length, 1) > target.data.size:
            raise CommandStreamError(
                f"a DMA of {dma.sizes} rows of {dma.length} bytes does not fit its region", HINT
            )
        # A gather replaces the source's inner counter by an index, a scatter the target's.
        rows = list(range(dma.sizes[1]))
        picked = self._indices(dma) if dma.indexed else rows
        for outer in range(dma.sizes[0]):
            for row, index in zip(rows, picked, strict=True):
                src_row, dst_row = (row, index) if dma.indexed == "destination" else (index, row)
                src = dma.src + outer * dma.src_strides[0] + src_row * dma.src_strides[1]
                dst = dma.dst + outer * dma.dst_strides[0] + dst_row * dma.dst_strides[1]
                _check_range(src_region, source, src, src + dma.length)
                _check_range(dst_region, target, dst, dst + dma.length)
                target.data[dst : dst + dma.length] = source.data[src : src + dma.length]
                target.written[dst : dst + dma.length] = source.written[src : src + dma.length]

    def _indices(self, dma: Dma) -> list[int]:
        indices: Array = np.frombuffer(
            self.bytes_at(dma.index_region, dma.index, 4 * dma.sizes[1]), "<i4"
        )
        # What the hardware does beyond the last index is not documented.
        if indices.min() < 0 or indices.max() > dma.index_max:
            raise CommandStreamError(f"a DMA's index lies outside [0, {dma.index_max}]", HINT)
        return [int(index) for index in indices]


def _check_range(number: int, region: Region, start: int, end: int) -> None:
    if not 0 <= start <= end <= region.data.size:
        raise CommandStreamError(
            f"bytes {start} to {end} lie outside region {number} ({region.data.size} bytes)", HINT
        )


def _all_written(state: str) -> int:
    return int.from_bytes(b"\1" * np.dtype(state).itemsize, "little")


def _check_written(number: int, state: Array) -> None:
    if not (state == _all_written(state.dtype.str)).all():
        raise CommandStreamError(f"bytes of region {number} are read that nobody wrote", HINT)


def _checked(shape: Shape, fm: FeatureMap, region: Region) -> Shape:
    """The shape, if its elements fit the region of the map."""
    # As Python integers, which cannot overflow. Absurd sizes are refused before memory is taken.
    if int(np.prod(shape, dtype=object)) * np.dtype(fm.dtype).itemsize > region.data.size:
        raise CommandStreamError(f"a feature map of {shape} does not fit region {fm.region}", HINT)
    return shape


def _tiles(fm: FeatureMap, shape: Shape) -> Iterator[tuple[tuple[slice, slice], int]]:
    """The used tiles: which part of the map, and the address of its corner."""
    # Tiles 0 and 2 are the left column, 1 and 3 the right one. Each column has its own split.
    height, width, _ = shape
    columns = ((0, min(fm.width0, width), fm.height0, 0), (fm.width0, width, fm.height1, 1))
    for left, right, split, k in columns:
        for top, bottom, base in (
            (0, min(split, height), fm.bases[k]),
            (split, height, fm.bases[k + 2]),
        ):
            if left < right and top < bottom:
                yield (slice(top, bottom), slice(left, right)), base


def _views(
    data: Array, fm: FeatureMap, base: int, shape: Shape, dtype: str
) -> Iterator[tuple[slice, Array]]:
    """Views on the bytes of one tile with the channels they hold: [y, x, c], or in bricks [y, x,
    brick, c].
    """
    height, width, depth = shape
    size = np.dtype(dtype).itemsize
    if not fm.bricks:
        if depth > 1 and fm.stride_c != size:
            raise unmodelled(f"a channel stride of {fm.stride_c} bytes for elements of {size}")
        yield slice(0, depth), _view(data, fm, base, dtype, shape, (fm.stride_y, fm.stride_x, size))
        return
    # One strided view cannot describe a last brick that is not full, so that one has a view of its
    # own.
    full, rest = divmod(depth, BRICK)
    strides = (fm.stride_y, BRICK * size, fm.stride_c, size)
    if full:
        yield (
            slice(0, full * BRICK),
            _view(data, fm, base, dtype, (height, width, full, BRICK), strides),
        )
    if rest:
        corner = base + full * fm.stride_c
        yield (
            slice(full * BRICK, depth),
            _view(data, fm, corner, dtype, (height, width, 1, rest), strides),
        )


def _view(
    data: Array,
    fm: FeatureMap,
    base: int,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Array:
    # A view must not leave the region: the byte after it belongs to another tensor.
    end = (
        base
        + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        + np.dtype(dtype).itemsize
    )
    if base < 0 or end > data.size:
        raise CommandStreamError(
            f"bytes {base} to {end} lie outside region {fm.region} ({data.size} bytes)", HINT
        )
    return np.ndarray(shape, dtype, data.data, base, strides)
