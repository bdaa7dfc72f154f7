# SPDX-License-Identifier: Apache-2.0
"""Runs operations: reads their inputs, computes, and writes what leaves the accumulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.arithmetic import dot, elementwise, fits, lookup_s16_s32, scaled
from gsqc.targets.arm_npu.u85.memory import LOOKUP_BYTES, LOOKUP_REGION, Memory, Shape
from gsqc.targets.arm_npu.u85.operation import (
    Accumulator,
    Convolution,
    Dma,
    Elementwise,
    FeatureMap,
    Operation,
    Output,
    Pool,
    Scale,
    Weights,
)
from gsqc.targets.arm_npu.u85.register_file import HINT, unmodelled
from gsqc.targets.arm_npu.u85.registers import (
    AccumulatorInput,
    ElementwiseMode,
    Lookup,
    PoolMode,
    Storage,
    Transpose,
)
from gsqc.targets.arm_npu.u85.weights import read_weights

Array = npt.NDArray[Any]
_AXES = {
    Transpose.HWC: (0, 1, 2),
    Transpose.WHC: (1, 0, 2),
    Transpose.HCW: (0, 2, 1),
    Transpose.WCH: (1, 2, 0),
    Transpose.CHW: (2, 0, 1),
    Transpose.CWH: (2, 1, 0),
}
_REDUCTIONS: dict[PoolMode, Callable[..., Array]] = {
    PoolMode.MAX: np.max,
    PoolMode.MIN: np.min,
    PoolMode.SUM: np.sum,
}
_SCALE_RECORD = 10


class Machine:
    """The memory, and the chaining buffers that hand an operation's output to the next one."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._chains: dict[int, Array] = {}

    def run(self, operation: Operation) -> None:
        """Run one operation."""
        if isinstance(operation, Dma):
            self.memory.copy(operation)
            return
        out = operation.output
        # A damaged stream may ask for any size: refuse it before memory is taken for it.
        if out.height * out.width * out.depth > self.memory.largest:
            raise CommandStreamError(
                f"an output of {(out.height, out.width, out.depth)} fits no region", HINT
            )
        if isinstance(operation, Elementwise):
            self._elementwise(operation)
        elif isinstance(operation, Pool):
            self._pool(operation)
        else:
            self._convolution(operation)

    def _input(self, fm: FeatureMap, shape: Shape) -> Array:
        """The elements [height, width, depth] as int64. An axis that is broadcast has size 1."""
        if fm.storage == Storage.NONE:
            return np.full((1, 1, 1), fm.scalar, np.int64)
        if fm.storage == Storage.CHAINED:
            return self._chained(fm, shape)
        # Bit 3 broadcasts all axes. Elements beyond the first may be poison, so none is read.
        sizes = [1 if fm.broadcast & 8 or fm.broadcast >> k & 1 else n for k, n in enumerate(shape)]
        return self.memory.read(fm, (sizes[0], sizes[1], sizes[2])).astype(np.int64) - fm.zero_point

    def _chained(self, fm: FeatureMap, shape: Shape) -> Array:
        if fm.region not in self._chains:
            raise CommandStreamError(
                f"chaining buffer {fm.region} is read before it is written", HINT
            )
        values = self._chains[fm.region]
        # A chain never was in memory, so it has no strides that could broadcast or move it.
        if values.shape != shape or fm.broadcast or fm.zero_point:
            raise unmodelled(f"a chained input of {values.shape} in an operation of {shape}")
        return fits(values, fm.dtype, "a chained input")

    def _elementwise(self, op: Elementwise) -> None:
        out = op.output
        shape = (out.height, out.width, out.depth)
        x = self._input(op.ifm, shape)
        y = None if op.ifm2 is None else self._input(op.ifm2, shape)
        values = elementwise(op.mode, x, y, out.scale.rounding)
        # OFM_SCALE gives SHR its rounding. What a factor beside it would do is not documented.
        if op.mode in (
            ElementwiseMode.SHR,
            ElementwiseMode.SHL,
            ElementwiseMode.LSR,
            ElementwiseMode.DIV,
        ):
            if (out.scale.factor, out.scale.shift) != (1, 0):
                raise unmodelled(f"a scaled {op.mode.name}")
        else:
            values = self._scaled(values, out.scale, 32)
        self._emit(np.broadcast_to(values, shape), out)

    def _pool(self, op: Pool) -> None:
        out, kernel = op.output, op.kernel
        # NONE starts the accumulator from IFM2 and adds nothing: a copy that may scale or look up.
        if op.mode == PoolMode.NONE:
            if op.ifm2 is None:
                raise unmodelled("a pool of mode NONE that does not read IFM2")
            values = self._input(op.ifm2, (out.height, out.width, out.depth))
        elif op.accumulator.source != AccumulatorInput.RESET:
            raise unmodelled(
                f"a pool of mode {op.mode.name} that starts from {op.accumulator.source.name}"
            )
        elif op.mode == PoolMode.REDUCE_SUM:
            values = self._input(op.ifm, (out.height, out.width, op.ifm_depth)).sum(
                2, keepdims=True
            )
        elif op.mode in _REDUCTIONS:
            # There is no padding, so the windows cover exactly these rows and columns.
            height = (out.height - 1) * kernel.stride_y + kernel.height
            width = (out.width - 1) * kernel.stride_x + kernel.width
            x = self._input(op.ifm, (height, width, out.depth))
            window: Any = (kernel.height, kernel.width)
            rows_and_columns: Any = (0, 1)
            windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=rows_and_columns)
            values = _REDUCTIONS[op.mode](
                windows[:: kernel.stride_y, :: kernel.stride_x], axis=(3, 4)
            )
        else:
            raise unmodelled(f"a pool of mode {op.mode.name}")
        self._emit(self._accumulated(values, op.accumulator, out), out)

    def _convolution(self, op: Convolution) -> None:
        out = op.output
        if op.accumulator.source != AccumulatorInput.RESET:
            raise unmodelled(f"a convolution that starts from {op.accumulator.source.name}")
        x = self._input(op.ifm, (out.height, out.width, op.ifm_depth))
        # A matmul's second operand is a tensor, IFM2. Only constants come as compressed weights.
        if isinstance(op.weights, Weights):
            bits = 8 * np.dtype(op.ifm.dtype).itemsize
            w = read_weights(self.memory, op.weights, out.depth, op.ifm_depth, bits)
        else:
            w = self._input(op.weights, (1, out.depth, op.ifm_depth))[0]
        self._emit(self._accumulated(dot(x, w), op.accumulator, out), out)

    def _accumulated(self, values: Array, accumulator: Accumulator, out: Output) -> Array:
        if not accumulator.output:
            raise unmodelled("an accumulator that is not written out")
        # Sums of integers have no order, so only the last value has to fit.
        limit = 1 << (accumulator.bits - 1)
        if values.size and (values.min() < -limit or values.max() >= limit):
            raise CommandStreamError(
                f"a sum overflows the accumulator of {accumulator.bits} bits", HINT
            )
        return self._scaled(values, out.scale, accumulator.bits)

    def _scaled(self, values: Array, scale: Scale, bits: int) -> Array:
        """The values times the output's scale, which is one for all channels or one per channel."""
        if not scale.per_channel:
            return scaled(values, scale.factor, scale.shift, scale.rounding)
        # A record per channel: a bias of the accumulator's width, a factor in what is left of the
        # first 8 bytes, a shift in the ninth. A bias of 48 bits leaves a factor of 15, one of 32
        # a factor of 31.
        depth = values.shape[2]
        raw = self.memory.bytes_at(scale.region, scale.address, _SCALE_RECORD * depth)
        records = np.frombuffer(raw, np.uint8).reshape(depth, _SCALE_RECORD).astype(np.int64)
        wide = bits // 8
        powers = 1 << (8 * np.arange(8, dtype=np.int64))
        bias = records[:, :wide] @ powers[:wide]
        # The bytes were read as an unsigned number: give the sign bit its weight.
        bias -= (bias >> (bits - 1)) << bits
        factor = records[:, wide:8] @ powers[: 8 - wide]
        return scaled(values + bias, factor, records[:, 8], scale.rounding)

    def _emit(self, values: Array, out: Output) -> None:
        """Apply table, zero point, clip and transpose, and write to memory or a chaining buffer."""
        if out.lookup == Lookup.S16_S32:
            values = lookup_s16_s32(
                values, self.memory.bytes_at(LOOKUP_REGION, out.table * LOOKUP_BYTES, LOOKUP_BYTES)
            )
        elif out.lookup != Lookup.NONE:
            raise unmodelled(f"the activation {out.lookup.name}")
        values = values + out.map.zero_point
        if out.clip is not None:
            values = np.clip(values, *out.clip)
        # Whether the hardware saturates or wraps here is not documented.
        fits(values, out.map.dtype, "an output")
        if out.map.storage == Storage.CHAINED:
            self._chains[out.map.region] = values
        elif out.map.storage == Storage.TILE2X2:
            # The zero point is in the values already.
            self.memory.write(
                replace(out.map, zero_point=0), values.transpose(_AXES[out.transpose])
            )
        else:
            raise unmodelled(f"an output with storage {out.map.storage.name}")
