# SPDX-License-Identifier: Apache-2.0
"""Command words -> operations.

Registers keep their value from one operation to the next, and Vela writes only those that change.
An operation that depends on a register which nobody set is an error. So is an opcode, a register or
a field value that is not modelled. Waits, interrupts and BLOCKDEP order what overlaps in hardware.
Decoded operations run one after another, so they need none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.decode_parts import (
    decode_accumulator,
    decode_feature_map,
    decode_kernel,
    decode_output,
    decode_weights,
)
from gsqc.targets.arm_npu.u85.operation import (
    Convolution,
    Dma,
    Elementwise,
    Kernel,
    Operation,
    Pool,
)
from gsqc.targets.arm_npu.u85.register_file import HINT, RegisterFile, member, unmodelled
from gsqc.targets.arm_npu.u85.registers import (
    CMD1,
    UNARY,
    AccumulatorInput,
    ElementwiseMode,
    Opcode,
    PoolMode,
)

_ORDERING = (Opcode.DMA_WAIT, Opcode.KERNEL_WAIT, Opcode.IRQ)


def _convolution(r: RegisterFile, weights_ifm2: int) -> Convolution:
    # Larger kernels exist in hardware. Every product of gsqc is a matmul, so none was tested.
    if decode_kernel(r) != Kernel(1, 1, 1, 1):
        raise unmodelled("a convolution whose kernel is not 1 × 1")
    weights = decode_feature_map(r, "IFM2") if weights_ifm2 else decode_weights(r)
    return Convolution(
        decode_feature_map(r, "IFM"),
        r["IFM_DEPTH_M1"] + 1,
        weights,
        decode_accumulator(r),
        decode_output(r),
    )


def _pool(r: RegisterFile, mode: int) -> Pool:
    accumulator = decode_accumulator(r)
    # IFM2 is read only by a pool whose accumulator starts from it. Else its registers are stale.
    from_ifm2 = accumulator.source == AccumulatorInput.IFM2
    return Pool(
        mode=member(PoolMode, mode),
        ifm=decode_feature_map(r, "IFM"),
        ifm_depth=r["IFM_DEPTH_M1"] + 1,
        ifm2=decode_feature_map(r, "IFM2") if from_ifm2 else None,
        kernel=decode_kernel(r),
        accumulator=accumulator,
        output=decode_output(r),
    )


def _elementwise(r: RegisterFile, mode: int) -> Elementwise:
    kind = member(ElementwiseMode, mode)
    r.equal("IFM_UPSCALE", 0)
    # Factors on the inputs serve float models quantised to int8. gsqc's exponents do that work.
    r.equal("IFM_SCALE", 1)
    if kind in UNARY:
        return Elementwise(
            kind, decode_feature_map(r, "IFM", broadcast=True), None, decode_output(r)
        )
    r.equal("IFM2_SCALE", 1)
    ifm, ifm2 = (
        decode_feature_map(r, "IFM", broadcast=True),
        decode_feature_map(r, "IFM2", broadcast=True),
    )
    return Elementwise(kind, ifm, ifm2, decode_output(r))


def _dma(r: RegisterFile, _: int) -> Dma:
    # One word says for both sides how many strides count. Registers beyond them are stale.
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
            # The payload is missing: the stream was cut off.
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
