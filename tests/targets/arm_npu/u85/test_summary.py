# SPDX-License-Identifier: Apache-2.0
"""Operations by kind."""

from __future__ import annotations

from gsqc.numerics.operators.builder import Tensor
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.u85.registers import ElementwiseMode, Opcode
from gsqc.targets.arm_npu.u85.summary import KINDS, count_operations
from tests.targets.arm_npu.compiling import compile_with_vela, needs_npu
from tests.targets.arm_npu.u85.streams import abs_registers, compiled, start, stream


def test_a_stream_by_hand() -> None:
    copy = {
        "DMA0_SRC_REGION": 1,
        "DMA0_SRC": 0,
        "DMA0_DST_REGION": 1,
        "DMA0_DST": 16,
        "DMA0_LEN": 4,
    }
    absolute = start(Opcode.ELEMENTWISE, ElementwiseMode.ABS)
    counts = count_operations(
        compiled(stream(abs_registers() | copy, absolute, start(Opcode.DMA_START, 0), absolute))
    )
    assert counts == {
        "matmul": {},
        "reduction": {},
        "element-wise": {"ABS": 2},
        "data movement": {"DMA": 1},
    }
    assert tuple(counts) == KINDS


def _program(x: Tensor, w: Tensor) -> Tensor:
    y = x.builder.matmul(x, w, 6).reshape(20, 33)
    return (y - y.reduce_max(1)).mulc(12345678).transpose(1, 0)


@needs_npu
def test_a_program() -> None:
    builder = VelaBuilder()
    builder.output(
        _program(builder.input((1, 20, 64), "int16"), builder.input((1, 33, 64), "int16"))
    )
    counts = count_operations(compile_with_vela(serialise_for_vela(builder.trace), "ethos-u85-256"))
    assert counts["matmul"] == {"CONV": 1}
    assert counts["reduction"] == {"MAX": 1}
    assert counts["element-wise"]["SUB"] == 1
