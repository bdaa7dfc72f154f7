# SPDX-License-Identifier: Apache-2.0
"""Constant weights: CONV2D of one pixel with weights in the program, which Vela compresses, equals
Arm's model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gsqc.errors import CommandStreamError
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.arm_npu.u85.operation import Convolution, Weights
from gsqc.targets.arm_npu.u85.run import run_command_stream
from gsqc.targets.tosa.reference_model import run_reference_model
from gsqc.targets.tosa.serialise import Tensor, Writer
from tests.targets.arm_npu.compiling import SIZES, Array, assert_same, compile_with_vela, needs_npu

pytestmark = needs_npu
_ACCUMULATOR = {"int8": "int32", "int16": "int48"}


def _program(
    shape: tuple[int, int, int], dtype: str, weight_dtype: str, rng: np.random.Generator
) -> bytes:
    """x [rows, k] · w [n, k] + bias, int32, where w and bias are constants."""
    rows, k, n = shape
    writer = Writer(Trace())
    writer.file.addInputTensor(
        writer.ts.TosaSerializerTensor("x", [1, 1, rows, k], writer.dtype(dtype))
    )
    x: Tensor = ("x", (1, 1, rows, k), dtype)
    largest, wide = 7 if weight_dtype == "int4" else 127, _ACCUMULATOR[dtype]
    weights = writer.constant(
        rng.integers(-largest, largest + 1, n * k).tolist(), (n, 1, 1, k), weight_dtype
    )
    bias = writer.constant(rng.integers(-500, 501, n).tolist(), (n,), wide)
    zeros = [writer.constant([0], (1,), kind) for kind in (dtype, weight_dtype)]
    attributes: list[Any] = [[0, 0, 0, 0], [1, 1], [1, 1], False, writer.dtype(wide)]
    result = writer.emit(
        "CONV2D", "Conv2d", [x, weights, bias, *zeros], (1, 1, rows, n), wide, *attributes
    )
    if wide == "int48":
        result = writer.rescale(result, 1 << 14, 14 + 8)
    writer.file.currRegion.currBasicBlock.addOutput(result[0])
    return bytes(writer.file.serialize())


SHAPES = ((24, 16, 40), (64, 330, 200))
TYPES = (("int8", "int8"), ("int8", "int4"), ("int16", "int8"))


@pytest.mark.parametrize("accelerator", SIZES)
@pytest.mark.parametrize("types", TYPES, ids="-".join)
def test_constant_weights(types: tuple[str, str], accelerator: str) -> None:
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        program = _program(shape, *types, rng)
        x: Array = rng.integers(-100, 101, (1, 1, *shape[:2])).astype(types[0])
        compiled = compile_with_vela(program, accelerator)
        assert any(
            isinstance(o, Convolution) and isinstance(o.weights, Weights)
            for o in compiled.operations()
        )
        assert_same(run_reference_model(program, [x]), run_command_stream(compiled, [x]))


def test_the_fast_format_is_named() -> None:
    """Vela takes it for few rows of many channels on the smaller sizes."""
    rng = np.random.default_rng(2)
    compiled = compile_with_vela(_program((5, 1536, 100), "int8", "int8", rng), "ethos-u85-128")
    with pytest.raises(CommandStreamError, match="does not model weights in the fast format"):
        run_command_stream(compiled, [np.ones((1, 1, 5, 1536), np.int8)])


def test_a_damaged_stream_is_an_error() -> None:
    rng = np.random.default_rng(3)
    compiled = compile_with_vela(_program((24, 40, 72), "int8", "int8", rng), "ethos-u85-256")
    (weights,) = (o.weights for o in compiled.operations() if isinstance(o, Convolution))
    assert isinstance(weights, Weights)
    start, length = weights.streams[0]
    broken = compiled.constants[:start] + rng.bytes(length) + compiled.constants[start + length :]
    with pytest.raises(
        CommandStreamError, match=r"a stream of compressed weights is damaged|a weight stream holds"
    ):
        run_command_stream(replace(compiled, constants=broken), [np.ones((1, 1, 24, 40), np.int8)])
