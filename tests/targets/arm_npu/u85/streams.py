# SPDX-License-Identifier: Apache-2.0
"""Command streams written by hand, for what Vela never writes."""

from __future__ import annotations

from dataclasses import replace

from gsqc.targets.arm_npu.u85.registers import CMD1, REGISTERS, Opcode
from gsqc.targets.arm_npu.u85.run import Compiled, Port

_NUMBERS = {name: number for number, name in REGISTERS.items()}
STOP = (int(Opcode.STOP) | 0xFFFF << 16,)
SIGNED_32_TILED = 0x9
OUTPUT_32_GLOBAL = 0x105


def setting(name: str, value: int) -> tuple[int, ...]:
    """The words that set a register. If it has a payload, its parameter stands in bits 32..47."""
    number = _NUMBERS[name]
    if number & CMD1:
        return number | (value >> 32) << 16, value & 0xFFFFFFFF
    return (number | value << 16,)


def start(opcode: int, parameter: int) -> tuple[int, ...]:
    return (opcode | parameter << 16,)


def elementwise_registers(
    prefix: str, precision: int, address: int, columns: int = 4
) -> dict[str, int]:
    """A feature map of one row of int32 in region 1."""
    return {
        f"{prefix}_PRECISION": precision,
        f"{prefix}_REGION": 1,
        f"{prefix}_BASE0": address,
        **{f"{prefix}_BASE{k}": 0 for k in (1, 2, 3)},
        f"{prefix}_STRIDE_Y": 4 * columns,
        f"{prefix}_STRIDE_X": 4 * columns,
        f"{prefix}_STRIDE_C": 4,
        f"{prefix}_HEIGHT0_M1": 0,
        f"{prefix}_HEIGHT1_M1": 0,
        f"{prefix}_WIDTH0_M1": 0,
        f"{prefix}_ZERO_POINT": 0,
    }


def abs_registers() -> dict[str, int]:
    """|x| of four int32 at byte 0, written to byte 16."""
    return {
        **elementwise_registers("IFM", SIGNED_32_TILED, 0),
        **elementwise_registers("OFM", OUTPUT_32_GLOBAL, 16),
        "IFM_UPSCALE": 0,
        "IFM_BROADCAST": 0,
        "IFM_SCALE": 1,
        "OFM_SCALE": 1,
        "OFM_HEIGHT_M1": 0,
        "OFM_WIDTH_M1": 0,
        "OFM_DEPTH_M1": 3,
        "ACTIVATION": 1 << 12,
    }


def stream(registers: dict[str, int], *operations: tuple[int, ...]) -> tuple[int, ...]:
    """All registers, then the operations, then STOP."""
    words = [word for name, value in registers.items() for word in setting(name, value)]
    return (*words, *(word for operation in operations for word in operation), *STOP)


FOUR = Port((4,), "int32", 1, 0)


def compiled(commands: tuple[int, ...], **changes: object) -> Compiled:
    """A program of four int32 at byte 0 and four at byte 16 of region 1, which has 32 bytes."""
    program = Compiled(
        commands, 256, b"\0" * 16, 0, {1: 32, 2: 0}, (FOUR,), (replace(FOUR, address=16),)
    )
    return replace(program, **changes)  # type: ignore[arg-type]
