# SPDX-License-Identifier: Apache-2.0
"""Command words -> operations.

RegisterFile keep their value from one operation to the next, and Vela writes only those that
change; an operation that depends on a register which nobody set is an error. So is an opcode, a
register or a field value that is not modelled. Waits, interrupts and BLOCKDEP order what overlaps
in hardware; decoded operations run one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.operation import (
    Accumulator,
    Convolution,
    Dma,
    Elementwise,
    FeatureMap,
    Kernel,
    Operation,
    Output,
    Pool,
    Scale,
    Weights,
)
from gsqc.targets.arm_npu.u85.register_file import HINT, RegisterFile, member, signed, unmodelled
from gsqc.targets.arm_npu.u85.registers import (
    CMD1,
    UNARY,
    AccumulatorInput,
    ElementwiseMode,
    Lookup,
    Opcode,
    PoolMode,
    Rounding,
    Storage,
    Transpose,
)

_ORDERING = (Opcode.DMA_WAIT, Opcode.KERNEL_WAIT, Opcode.IRQ)


def _feature_map(r: RegisterFile, prefix: str, *, broadcast: bool = False) -> FeatureMap:
    """`prefix` is IFM, IFM2 or OFM. An element's width stands at bit 2 of an input's precision, 1
    of an output's.
    """
    precision = f"{prefix}_PRECISION"
    storage = member(Storage, r.field(precision, 14, 2))
    bits = 8 << r.field(precision, 1 if prefix == "OFM" else 2, 2)
    dtype = f"{'int' if r[precision] & 1 else 'uint'}{bits}"
    zero_point = signed(r[f"{prefix}_ZERO_POINT"], 16)
    axes = r[f"{prefix}_BROADCAST"] if broadcast else 0
    if storage == Storage.NONE:
        return FeatureMap(storage, dtype, zero_point=zero_point, scalar=signed(r["OP_SCALAR"], 32))
    region = r[f"{prefix}_REGION"]
    if storage == Storage.CHAINED:
        return FeatureMap(storage, dtype, region=region, zero_point=zero_point, broadcast=axes)
    if storage == Storage.TILE3X1 or r.field(precision, 6, 2) > 1:
        raise unmodelled(f"{precision} = {r[precision]:#x}")
    return FeatureMap(
        storage,
        dtype,
        bricks=r.field(precision, 6, 2) == 1,
        region=region,
        bases=(
            r[f"{prefix}_BASE0"],
            r[f"{prefix}_BASE1"],
            r[f"{prefix}_BASE2"],
            r[f"{prefix}_BASE3"],
        ),
        stride_y=r[f"{prefix}_STRIDE_Y"],
        stride_x=r[f"{prefix}_STRIDE_X"],
        stride_c=r[f"{prefix}_STRIDE_C"],
        height0=r[f"{prefix}_HEIGHT0_M1"] + 1,
        height1=r[f"{prefix}_HEIGHT1_M1"] + 1,
        width0=r[f"{prefix}_WIDTH0_M1"] + 1,
        zero_point=zero_point,
        broadcast=axes,
    )


def _scale(r: RegisterFile) -> Scale:
    factor, shift = r["OFM_SCALE"] & 0xFFFFFFFF, r.field("OFM_SCALE", 32, 6)
    rounding = member(Rounding, r.field("OFM_SCALE", 45, 3))
    if r.field("OFM_SCALE", 38, 5):
        raise unmodelled("double rounding in OFM_SCALE")
    if r.field("OFM_PRECISION", 8, 1):
        return Scale(factor, shift, rounding)
    return Scale(
        factor, shift, rounding, True, r["SCALE_REGION"], r["SCALE_BASE"], r["SCALE_LENGTH"]
    )


def _output(r: RegisterFile) -> Output:
    if r.field("OFM_PRECISION", 9, 2):
        raise unmodelled("a reversed output")
    clip = None
    if not r.field("ACTIVATION", 12, 1):
        low, high = r["ACTIVATION_MIN"], r["ACTIVATION_MAX"]
        clip = (signed(low, 16), signed(high, 16)) if r["OFM_PRECISION"] & 1 else (low, high)
    return Output(
        height=r["OFM_HEIGHT_M1"] + 1,
        width=r["OFM_WIDTH_M1"] + 1,
        depth=r["OFM_DEPTH_M1"] + 1,
        map=_feature_map(r, "OFM"),
        transpose=member(Transpose, r.field("OFM_PRECISION", 11, 3)),
        scale=_scale(r),
        lookup=member(Lookup, r.field("ACTIVATION", 0, 5)),
        table=r.field("ACTIVATION", 5, 3),
        clip=clip,
    )


def _accumulator(r: RegisterFile) -> Accumulator:
    return Accumulator(
        bits=48 if r.field("ACC_FORMAT", 0, 2) else 32,
        source=member(AccumulatorInput, r.field("ACC_FORMAT", 4, 2)),
        output=not r.field("ACC_FORMAT", 6, 1),
    )


def _kernel(r: RegisterFile) -> Kernel:
    for side in ("TOP", "LEFT", "BOTTOM", "RIGHT"):
        r.equal(f"IFM_PAD_{side}", 0)
    r.equal("IFM_UPSCALE", 0)
    if r.field("KERNEL_STRIDE", 3, 2):
        raise unmodelled("a dilated kernel")
    stride = r["KERNEL_STRIDE"]
    return Kernel(
        height=r["KERNEL_HEIGHT_M1"] + 1,
        width=r["KERNEL_WIDTH_M1"] + 1,
        stride_y=1 + (stride >> 1 & 1) + 2 * (stride >> 9 & 1),
        stride_x=1 + (stride & 1) + 2 * (stride >> 6 & 1),
    )


def _weights(r: RegisterFile) -> Weights:
    if r.field("WEIGHT_FORMAT", 4, 1):
        raise unmodelled("sparse weights")
    streams = [(r["WEIGHT_BASE"], r["WEIGHT_LENGTH"])] + [
        (r[f"WEIGHT{k}_BASE"], r[f"WEIGHT{k}_LENGTH"])
        for k in (1, 2, 3)
        if r.get(f"WEIGHT{k}_LENGTH")
    ]
    return Weights(
        region=r["WEIGHT_REGION"],
        streams=tuple(streams),
        fast=bool(r.field("WEIGHT_FORMAT", 0, 4)),
        part_kernel_first=bool(r.field("KERNEL_STRIDE", 2, 1)),
        microblock=r.field("ACC_FORMAT", 8, 3),
        ofm_block=r["OFM_BLK_DEPTH_M1"] + 1,
        macs=r.macs,
    )


def _convolution(r: RegisterFile, weights_ifm2: int) -> Convolution:
    if _kernel(r) != Kernel(1, 1, 1, 1):
        raise unmodelled("a convolution whose kernel is not 1 × 1")
    weights = _feature_map(r, "IFM2") if weights_ifm2 else _weights(r)
    return Convolution(
        _feature_map(r, "IFM"), r["IFM_DEPTH_M1"] + 1, weights, _accumulator(r), _output(r)
    )


def _pool(r: RegisterFile, mode: int) -> Pool:
    accumulator = _accumulator(r)
    from_ifm2 = accumulator.source == AccumulatorInput.IFM2
    return Pool(
        mode=member(PoolMode, mode),
        ifm=_feature_map(r, "IFM"),
        ifm_depth=r["IFM_DEPTH_M1"] + 1,
        ifm2=_feature_map(r, "IFM2") if from_ifm2 else None,
        kernel=_kernel(r),
        accumulator=accumulator,
        output=_output(r),
    )


def _elementwise(r: RegisterFile, mode: int) -> Elementwise:
    kind = member(ElementwiseMode, mode)
    r.equal("IFM_UPSCALE", 0)
    r.equal("IFM_SCALE", 1)
    if kind in UNARY:
        return Elementwise(kind, _feature_map(r, "IFM", broadcast=True), None, _output(r))
    r.equal("IFM2_SCALE", 1)
    ifm, ifm2 = _feature_map(r, "IFM", broadcast=True), _feature_map(r, "IFM2", broadcast=True)
    return Elementwise(kind, ifm, ifm2, _output(r))


def _dma(r: RegisterFile, _: int) -> Dma:
    dimensions = r.field("DMA0_SRC_REGION", 9, 2)
    by_source, by_destination = r.field("DMA0_SRC_REGION", 11, 1), r.field("DMA0_DST_REGION", 11, 1)
    indexed = "source" if by_source else "destination" if by_destination else None
    outer, inner = dimensions >= 2, dimensions >= 1
    if indexed and outer:
        raise unmodelled("an indexed DMA of three dimensions")
    return Dma(
        src_region=r.field("DMA0_SRC_REGION", 0, 3),
        src=r["DMA0_SRC"],
        src_lookup=bool(r.field("DMA0_SRC_REGION", 8, 1)),
        src_strides=(
            r["DMA0_SRC_STRIDE1"] if outer else 0,
            r["DMA0_SRC_STRIDE0"] if inner or by_source else 0,
        ),
        dst_region=r.field("DMA0_DST_REGION", 0, 3),
        dst=r["DMA0_DST"],
        dst_lookup=bool(r.field("DMA0_DST_REGION", 8, 1)),
        dst_strides=(
            r["DMA0_DST_STRIDE1"] if outer else 0,
            r["DMA0_DST_STRIDE0"] if inner or by_destination else 0,
        ),
        length=r["DMA0_LEN"],
        sizes=(r["DMA0_SIZE1"] if outer else 1, r["DMA0_SIZE0"] if inner else 1),
        indexed=indexed,
        index_region=r["DMA0_IDX_REGION"] if indexed else 0,
        index=r["DMA0_IDX"] if indexed else 0,
        index_max=r["DMA0_IDX_MAX"] if indexed else 0,
    )


_OPERATIONS: dict[Opcode, Callable[[RegisterFile, int], Operation]] = {
    Opcode.CONV: _convolution,
    Opcode.POOL: _pool,
    Opcode.ELEMENTWISE: _elementwise,
    Opcode.DMA_START: _dma,
}


def decode(words: Sequence[int], macs: int) -> Iterator[Operation]:
    """The operations of a command stream for an NPU of `macs` multipliers, in order.

    Raises CommandStreamError where the stream is not understood.
    """
    registers, at = RegisterFile(macs), 0
    while at < len(words):
        word = words[at]
        at += 1
        if word & CMD1:
            if at == len(words):
                break
            registers.set(word, words[at])
            at += 1
        elif word & 0xFFFF >= 0x100:
            registers.set(word, None)
        elif (opcode := member(Opcode, word & 0xFFFF)) == Opcode.STOP:
            return
        elif opcode in _OPERATIONS:
            yield _OPERATIONS[opcode](registers, word >> 16)
        elif opcode not in _ORDERING:
            raise unmodelled(f"operation {opcode.name}")
    raise CommandStreamError("the command stream ends without STOP", HINT)
