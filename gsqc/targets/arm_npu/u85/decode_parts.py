# SPDX-License-Identifier: Apache-2.0
"""Registers -> the parts of an operation: feature maps, the output, the accumulator, the kernel and
constant weights.

A field whose meaning is not modelled is an error. A guess could give wrong numbers in silence.
"""

from __future__ import annotations

from gsqc.targets.arm_npu.u85.operation import (
    Accumulator,
    FeatureMap,
    Kernel,
    Output,
    Scale,
    Weights,
)
from gsqc.targets.arm_npu.u85.register_file import RegisterFile, member, signed, unmodelled
from gsqc.targets.arm_npu.u85.registers import (
    AccumulatorInput,
    Lookup,
    Rounding,
    Storage,
    Transpose,
)


def decode_feature_map(r: RegisterFile, prefix: str, *, broadcast: bool = False) -> FeatureMap:
    """The feature map that the registers of `prefix` (IFM, IFM2 or OFM) describe."""
    precision = f"{prefix}_PRECISION"
    storage = member(Storage, r.field(precision, 14, 2))
    # The element's width begins at bit 2 of an input's precision, and at bit 1 of an output's.
    bits = 8 << r.field(precision, 1 if prefix == "OFM" else 2, 2)
    dtype = f"{'int' if r[precision] & 1 else 'uint'}{bits}"
    zero_point = signed(r[f"{prefix}_ZERO_POINT"], 16)
    # Only element-wise operations broadcast. The register still holds their last value in others.
    axes = r[f"{prefix}_BROADCAST"] if broadcast else 0
    # A scalar and a chained map have no address, so the registers of addresses may be stale.
    if storage == Storage.NONE:
        return FeatureMap(storage, dtype, zero_point=zero_point, scalar=signed(r["OP_SCALAR"], 32))
    region = r[f"{prefix}_REGION"]
    if storage == Storage.CHAINED:
        return FeatureMap(storage, dtype, region=region, zero_point=zero_point, broadcast=axes)
    # No program of gsqc has these layouts, so no test could show that they are read right.
    if storage == Storage.TILE3X1 or r.field(precision, 6, 2) > 1:
        raise unmodelled(f"{precision} = {r[precision]:#x}")
    # The hardware stores sizes less one.
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
    # Bits 38 to 42 ask for a second rounding. A product of gsqc is rounded once.
    if r.field("OFM_SCALE", 38, 5):
        raise unmodelled("double rounding in OFM_SCALE")
    # Bit 8 says whether one scale holds for all channels. Else each channel has a record in memory.
    if r.field("OFM_PRECISION", 8, 1):
        return Scale(factor, shift, rounding)
    return Scale(
        factor, shift, rounding, True, r["SCALE_REGION"], r["SCALE_BASE"], r["SCALE_LENGTH"]
    )


def decode_output(r: RegisterFile) -> Output:
    """The output's size and map, and what is done to a value on its way out."""
    if r.field("OFM_PRECISION", 9, 2):
        raise unmodelled("a reversed output")
    # Bit 12 turns the clip off. Its bounds are 16-bit fields, signed where the output is.
    clip = None
    if not r.field("ACTIVATION", 12, 1):
        low, high = r["ACTIVATION_MIN"], r["ACTIVATION_MAX"]
        clip = (signed(low, 16), signed(high, 16)) if r["OFM_PRECISION"] & 1 else (low, high)
    return Output(
        height=r["OFM_HEIGHT_M1"] + 1,
        width=r["OFM_WIDTH_M1"] + 1,
        depth=r["OFM_DEPTH_M1"] + 1,
        map=decode_feature_map(r, "OFM"),
        transpose=member(Transpose, r.field("OFM_PRECISION", 11, 3)),
        scale=_scale(r),
        lookup=member(Lookup, r.field("ACTIVATION", 0, 5)),
        table=r.field("ACTIVATION", 5, 3),
        clip=clip,
    )


def decode_accumulator(r: RegisterFile) -> Accumulator:
    """The accumulator's width, what it starts from, and whether it is written out."""
    return Accumulator(
        bits=48 if r.field("ACC_FORMAT", 0, 2) else 32,
        source=member(AccumulatorInput, r.field("ACC_FORMAT", 4, 2)),
        output=not r.field("ACC_FORMAT", 6, 1),
    )


def decode_kernel(r: RegisterFile) -> Kernel:
    """The window of a convolution or a pool, without padding, upscaling or dilation."""
    # With padding the window would read elements that are not in memory.
    for side in ("TOP", "LEFT", "BOTTOM", "RIGHT"):
        r.equal(f"IFM_PAD_{side}", 0)
    r.equal("IFM_UPSCALE", 0)
    if r.field("KERNEL_STRIDE", 3, 2):
        raise unmodelled("a dilated kernel")
    # A stride is stored less one, and its second bit stands apart from its first.
    stride = r["KERNEL_STRIDE"]
    return Kernel(
        height=r["KERNEL_HEIGHT_M1"] + 1,
        width=r["KERNEL_WIDTH_M1"] + 1,
        stride_y=1 + (stride >> 1 & 1) + 2 * (stride >> 9 & 1),
        stride_x=1 + (stride & 1) + 2 * (stride >> 6 & 1),
    )


def decode_weights(r: RegisterFile) -> Weights:
    """The streams of compressed weights, and what their order depends on."""
    if r.field("WEIGHT_FORMAT", 4, 1):
        raise unmodelled("sparse weights")
    # Each core reads a stream of its own. An NPU of one core may leave these registers unset.
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
