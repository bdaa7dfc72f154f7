# SPDX-License-Identifier: Apache-2.0
"""Numbers of the Ethos-U85 command stream: opcodes, register names, and the enumerations that their
fields hold.

A command is one 32-bit word (cmd0: opcode in bits 0..9, a parameter in bits 16..31) or two (cmd1:
bit 14 set, the second word is the payload). Opcodes below 0x100 of cmd0 are operations, all others
set a register. The numbers and the names are those that Vela prints with
`--verbose-register-command-stream`, and of the interface header in its sources
(regor/architecture/ethosu85/ethos_u85_interface.hpp), which also gives the position of each field.
"""

from __future__ import annotations

from enum import IntEnum

CMD1 = 0x4000
"""The bit of the opcode word that says: a payload word follows."""


class Opcode(IntEnum):
    """Commands that do something. All others set registers."""

    STOP = 0x00
    IRQ = 0x01
    CONV = 0x02
    DEPTHWISE = 0x03
    POOL = 0x05
    ELEMENTWISE = 0x06
    RESIZE = 0x07
    DMA_START = 0x10
    DMA_WAIT = 0x11
    KERNEL_WAIT = 0x12
    PMU_MASK = 0x13


# Registers in a row have numbers in a row, so each line gives the first number and the names.
_CMD0 = {
    0x100: "IFM_PAD_TOP IFM_PAD_LEFT IFM_PAD_RIGHT IFM_PAD_BOTTOM IFM_DEPTH_M1 IFM_PRECISION",
    0x107: "IFM_UPSCALE IFM_BROADCAST IFM_ZERO_POINT IFM_WIDTH0_M1 IFM_HEIGHT0_M1 IFM_HEIGHT1_M1",
    0x10F: "IFM_REGION",
    0x111: "OFM_WIDTH_M1 OFM_HEIGHT_M1 OFM_DEPTH_M1 OFM_PRECISION",
    0x115: "OFM_BLK_WIDTH_M1 OFM_BLK_HEIGHT_M1 OFM_BLK_DEPTH_M1 OFM_ZERO_POINT",
    0x11A: "OFM_WIDTH0_M1 OFM_HEIGHT0_M1 OFM_HEIGHT1_M1",
    0x11F: "OFM_REGION KERNEL_WIDTH_M1 KERNEL_HEIGHT_M1 KERNEL_STRIDE",
    0x124: "ACC_FORMAT ACTIVATION ACTIVATION_MIN ACTIVATION_MAX WEIGHT_REGION SCALE_REGION",
    0x12E: "WEIGHT_FORMAT BLOCKDEP DMA0_SRC_REGION DMA0_DST_REGION",
    0x132: "DMA0_SIZE0 DMA0_SIZE1 DMA0_IDX_REGION",
    0x180: "IFM2_BROADCAST",
    0x185: "IFM2_PRECISION",
    0x189: "IFM2_ZERO_POINT IFM2_WIDTH0_M1 IFM2_HEIGHT0_M1 IFM2_HEIGHT1_M1",
    0x18F: "IFM2_REGION",
}
_CMD1 = {
    0x00: "IFM_BASE0 IFM_BASE1 IFM_BASE2 IFM_BASE3 IFM_STRIDE_X IFM_STRIDE_Y IFM_STRIDE_C",
    0x10: "OFM_BASE0 OFM_BASE1 OFM_BASE2 OFM_BASE3 OFM_STRIDE_X OFM_STRIDE_Y OFM_STRIDE_C",
    0x20: "WEIGHT_BASE WEIGHT_LENGTH SCALE_BASE SCALE_LENGTH",
    0x24: "OFM_SCALE IFM_SCALE IFM2_SCALE OP_SCALAR",
    0x30: "DMA0_SRC DMA0_DST DMA0_LEN DMA0_SRC_STRIDE0 DMA0_SRC_STRIDE1",
    0x35: "DMA0_DST_STRIDE0 DMA0_DST_STRIDE1 DMA0_IDX DMA0_IDX_MAX DMA0_IDX_SKIP1",
    0x80: "IFM2_BASE0 IFM2_BASE1 IFM2_BASE2 IFM2_BASE3 IFM2_STRIDE_X IFM2_STRIDE_Y IFM2_STRIDE_C",
    0x90: "WEIGHT1_BASE WEIGHT1_LENGTH WEIGHT2_BASE WEIGHT2_LENGTH WEIGHT3_BASE WEIGHT3_LENGTH",
}


def _numbered(groups: dict[int, str], offset: int) -> dict[int, str]:
    return {
        offset + first + k: name
        for first, names in groups.items()
        for k, name in enumerate(names.split())
    }


REGISTERS = _numbered(_CMD0, 0) | _numbered(_CMD1, CMD1)
"""Opcode word -> name of the register that it sets. Those of RESIZE are left out, because no
program of gsqc resizes.
"""


class Storage(IntEnum):
    """Where a feature map lies: memory in up to four tiles, a chaining buffer, or nowhere (a scalar
    register).
    """

    TILE2X2 = 0
    TILE3X1 = 1
    CHAINED = 2
    NONE = 3


class Rounding(IntEnum):
    """Rounding of the output's right shift."""

    DOUBLE_SYMMETRIC = 0
    NATURAL = 1
    DOUBLE_ASYMMETRIC = 2
    SYMMETRIC = 3
    TRUNCATE_TO_ZERO = 4
    TRUNCATE_TO_LOWER = 5


class Transpose(IntEnum):
    """Order in which the output's axes (height, width, channel) are written."""

    HWC = 0
    WHC = 1
    HCW = 2
    WCH = 3
    CHW = 6
    CWH = 7


class AccumulatorInput(IntEnum):
    """What a sum starts from."""

    RESET = 0
    KEEP = 1
    IFM2 = 2


class Lookup(IntEnum):
    """The activation's table: type of its index and of its values."""

    NONE = 0
    U8_U8 = 1
    S8_S8 = 4
    S8_S16 = 5
    S8_S32 = 7
    S16_S16 = 8
    S16_S32 = 9
    TANH = 10
    SIGMOID = 11


class PoolMode(IntEnum):
    """What a pool does with the elements of its window."""

    MAX = 0
    AVERAGE = 1
    REDUCE_SUM = 2
    SUM = 3
    NONE = 4
    MIN = 5
    ARGMAX_X = 6
    ARGMAX_Y = 7


class ElementwiseMode(IntEnum):
    """What an element-wise operation computes."""

    MUL = 0
    ADD = 1
    SUB = 2
    MIN = 3
    MAX = 4
    LRELU = 5
    ABS = 6
    CLZ = 7
    SHR = 8
    SHL = 9
    LSR = 10
    DIV = 11
    CMP_EQ = 16
    CMP_NE = 17
    CMP_GE = 18
    CMP_GT = 19
    AND = 33
    OR = 34
    XOR = 35
    NOT = 36
    AND_NOT = 42


UNARY = (ElementwiseMode.LRELU, ElementwiseMode.ABS, ElementwiseMode.CLZ, ElementwiseMode.NOT)
"""Element-wise modes that read IFM alone."""
