# SPDX-License-Identifier: Apache-2.0
"""Hand-written and damaged streams: what is not known is named, what nobody wrote is not read.
Needs no Vela.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.registers import ElementwiseMode, Opcode, PoolMode
from gsqc.targets.arm_npu.u85.run import command_words, read_compiled, run_command_stream
from tests.targets.arm_npu.u85.streams import (
    abs_registers,
    compiled,
    elementwise_registers,
    setting,
    start,
    stream,
)

GIVEN = np.array([3, -4, 0, -(2**31) + 1], np.int32)
ABS = start(Opcode.ELEMENTWISE, ElementwiseMode.ABS)


def _run(
    registers: dict[str, int], *operations: tuple[int, ...], given: np.ndarray = GIVEN
) -> list[int]:
    result: list[int] = run_command_stream(compiled(stream(registers, *operations)), [given])[
        0
    ].tolist()
    return result


def test_a_stream_by_hand() -> None:
    assert _run(abs_registers(), ABS) == [3, 4, 0, 2**31 - 1]


@pytest.mark.parametrize(
    ("changes", "operation", "named"),
    [
        ({}, (0x0C,), "Opcode 12"),
        ({}, (0x1FF | 7 << 16,), "register 0x01ff"),
        ({}, start(Opcode.RESIZE, 0), "operation RESIZE"),
        ({}, start(Opcode.DEPTHWISE, 0), "operation DEPTHWISE"),
        ({}, start(Opcode.ELEMENTWISE, 12), "ElementwiseMode 12"),
        ({}, start(Opcode.ELEMENTWISE, ElementwiseMode.LRELU), "LRELU"),
        ({"IFM_UPSCALE": 1}, ABS, "IFM_UPSCALE = 0x1"),
        ({"IFM_SCALE": 1 | 3 << 32}, ABS, "IFM_SCALE = 0x300000001"),
        ({"IFM_PRECISION": 1 << 14 | 9}, ABS, "IFM_PRECISION = 0x4009"),
        ({"IFM_STRIDE_C": 8}, ABS, "a channel stride of 8 bytes"),
        ({"OFM_PRECISION": 0x105 | 1 << 9}, ABS, "a reversed output"),
        ({"OFM_PRECISION": 0x105 | 4 << 11}, ABS, "Transpose 4"),
        ({"OFM_SCALE": 1 | (1 | 2 << 13) << 32}, ABS, "a shift with rounding DOUBLE_ASYMMETRIC"),
        ({"OFM_SCALE": 1 | (5 << 6) << 32}, ABS, "double rounding"),
        ({"ACTIVATION": 1 << 12 | 10}, ABS, "the activation TANH"),
    ],
)
def test_what_is_not_modelled_is_named(
    changes: dict[str, int], operation: tuple[int, ...], named: str
) -> None:
    with pytest.raises(CommandStreamError, match=named) as error:
        _run(abs_registers() | changes, operation)
    assert str(error.value).startswith("operation 0: ")


@pytest.mark.parametrize("register", ["IFM_BASE0", "OFM_DEPTH_M1", "OFM_SCALE", "ACTIVATION"])
def test_a_register_that_nobody_set(register: str) -> None:
    registers = abs_registers()
    del registers[register]
    with pytest.raises(CommandStreamError, match=f"before register {register} was set"):
        _run(registers, ABS)


def test_memory_that_nobody_wrote_is_not_read() -> None:
    with pytest.raises(
        CommandStreamError, match="operation 0: bytes of region 1 are read that nobody wrote"
    ):
        _run(abs_registers() | {"IFM_BASE0": 4}, ABS)
    with pytest.raises(CommandStreamError, match="bytes of region 1 are read that nobody wrote"):
        _run(abs_registers())


def test_a_copy_of_poison_is_poison() -> None:
    copy = {
        "DMA0_SRC_REGION": 1,
        "DMA0_SRC": 16,
        "DMA0_DST_REGION": 1,
        "DMA0_DST": 0,
        "DMA0_LEN": 4,
    }
    with pytest.raises(
        CommandStreamError, match="operation 1: bytes of region 1 are read that nobody wrote"
    ):
        _run(abs_registers() | copy, start(Opcode.DMA_START, 0), ABS)
    assert _run(abs_registers() | copy | {"DMA0_SRC": 4}, start(Opcode.DMA_START, 0), ABS)[:2] == [
        4,
        4,
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"IFM_BASE0": 20}, "bytes 20 to 36 lie outside region 1"),
        ({"IFM_BASE0": 1 << 39}, "lie outside region 1"),
        ({"OFM_BASE0": 17}, "bytes 17 to 33 lie outside region 1"),
        ({"OFM_REGION": 0}, "region 0 holds constants"),
        ({"IFM_REGION": 5}, "region 5 does not exist"),
        (
            {"OFM_HEIGHT_M1": 65535, "OFM_WIDTH_M1": 65535},
            r"an output of \(65536, 65536, 4\) fits no region",
        ),
        ({"OFM_REGION": 2}, "a feature map of .* does not fit region 2"),
    ],
)
def test_addresses_stay_inside_their_region(changes: dict[str, int], text: str) -> None:
    with pytest.raises(CommandStreamError, match=text):
        _run(abs_registers() | changes, ABS)


def test_a_copy_larger_than_its_region_is_refused() -> None:
    rows = {
        "DMA0_SIZE0": 65535,
        "DMA0_SIZE1": 65535,
        "DMA0_SRC_REGION": 1 | 2 << 9,
        "DMA0_DST_REGION": 1,
    }
    rows |= {f"DMA0_{side}_STRIDE{k}": 0 for side in ("SRC", "DST") for k in (0, 1)}
    with pytest.raises(CommandStreamError, match="does not fit its region"):
        _run(
            abs_registers() | rows | {"DMA0_SRC": 0, "DMA0_DST": 16, "DMA0_LEN": 4},
            start(Opcode.DMA_START, 0),
        )


def test_an_overflow_is_an_error() -> None:
    with pytest.raises(
        CommandStreamError, match=r"an output: \[2147483648, 2147483648\] does not fit int32"
    ):
        _run(abs_registers(), ABS, given=np.full(4, -(2**31), np.int32))


def test_a_chaining_buffer_is_written_first() -> None:
    with pytest.raises(CommandStreamError, match="chaining buffer 1 is read before"):
        _run(abs_registers() | {"IFM_PRECISION": 0x8009}, ABS)


def test_two_tiles_of_rows() -> None:
    """Row 0 in one tile, row 1 in the third, which lies before it."""
    registers = abs_registers() | elementwise_registers("IFM", 0x9, 8, columns=2)
    registers |= {"IFM_BASE2": 0, "IFM_HEIGHT0_M1": 0, "IFM_HEIGHT1_M1": 0}
    registers |= {"OFM_HEIGHT_M1": 1, "OFM_DEPTH_M1": 1, "OFM_STRIDE_Y": 8, "OFM_HEIGHT0_M1": 1}
    assert _run(registers, ABS) == [0, 2**31 - 1, 3, 4]


def test_a_stream_without_stop() -> None:
    words = stream(abs_registers(), ABS)[:-1]
    with pytest.raises(CommandStreamError, match="ends without STOP"):
        run_command_stream(compiled(words), [GIVEN])
    with pytest.raises(CommandStreamError, match="ends without STOP"):
        run_command_stream(compiled(setting("OFM_BASE0", 0)[:1]), [GIVEN])


def test_a_pool_that_keeps_its_accumulator_is_named() -> None:
    kernel = {f"IFM_PAD_{side}": 0 for side in ("TOP", "LEFT", "BOTTOM", "RIGHT")}
    kernel |= {
        "KERNEL_STRIDE": 0,
        "KERNEL_WIDTH_M1": 0,
        "KERNEL_HEIGHT_M1": 0,
        "IFM_DEPTH_M1": 3,
        "ACC_FORMAT": 1 << 4,
    }
    with pytest.raises(CommandStreamError, match="a pool of mode MAX that starts from KEEP"):
        _run(abs_registers() | kernel, start(Opcode.POOL, PoolMode.MAX))


def test_inputs_of_the_wrong_number_or_size() -> None:
    program = compiled(stream(abs_registers(), ABS))
    with pytest.raises(CommandStreamError, match="has 1 inputs, not 2"):
        run_command_stream(program, [GIVEN, GIVEN])
    with pytest.raises(CommandStreamError, match=r"an input of \(4,\) int32 got \(2,\) int32"):
        run_command_stream(program, [GIVEN[:2]])


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "no driver header"),
        (b"COP2" + b"\0" * 8, "no driver header"),
        (b"COP1", "holds no command stream"),
        (b"COP1\x09\0\0\0", "driver action 9 is unknown"),
    ],
)
def test_a_payload_that_is_not_the_drivers(payload: bytes, text: str) -> None:
    with pytest.raises(CommandStreamError, match=text):
        command_words(payload)


def test_a_file_that_is_not_velas(tmp_path: Path) -> None:
    for name, content in {"text.npz": b"hello", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "object.npz", cmd_data=np.array([{}], object))
    for name in ("text.npz", "empty.npz", "other.npz", "object.npz", "missing.npz"):
        with pytest.raises(CommandStreamError, match="is not Vela's raw output"):
            read_compiled(tmp_path / name)
