# SPDX-License-Identifier: Apache-2.0
"""Rotations at the ends of their range, in Arm's reference model and in command streams."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.numerics.operators.builder import Tensor
from gsqc.numerics.operators.hadamard import HADAMARD, ROTATED
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.tosa.reference_model import run_reference_model
from tests.targets.arm_npu.compiling import SIZES, Array, assert_same, needs_npu, run_compiled

pytestmark = needs_npu
MATRIX = np.array(HADAMARD)
LARGEST = {16: 2**15 - 1, 24: 2**23 - 1, 27: 2**26 - 1}
"""The largest number by its bits. A rotation takes 27 bits at most."""


def _rows(bits: int) -> Array:
    """Zeros, one number in each place, the largest sums of both signs, and random numbers."""
    most = LARGEST[bits]
    rng = np.random.default_rng(bits)
    one, ends = np.eye(ROTATED, dtype=np.int64), MATRIX * most
    random = rng.integers(-most, most + 1, (40, ROTATED)) >> rng.integers(0, bits, (40, ROTATED))
    parts = (0 * one[:1], one, one * most, one * -most, ends, -ends, random)
    rows: Array = np.concatenate(parts).astype(np.int32)
    return rows


def _rotated(x: Tensor, bits: int) -> Tensor:
    return (x.cast("int16").cast("int32") if bits == 16 else x).rotate()


def test_the_matrix_is_that_of_the_definition() -> None:
    builder = NumpyBuilder()
    identity = builder.tensor(np.eye(ROTATED, dtype=np.int32))
    assert np.array_equal(identity.rotate().data, MATRIX)


@pytest.mark.parametrize("bits", LARGEST)
@pytest.mark.parametrize("accelerator", SIZES)
def test_extremes(bits: int, accelerator: str) -> None:
    rows, numpy, recorded = _rows(bits), NumpyBuilder(), VelaBuilder()
    expected = [_rotated(numpy.tensor(rows), bits).data]
    assert_same([rows.astype(np.int64) @ MATRIX], expected)
    recorded.output(_rotated(recorded.input(rows.shape, "int32"), bits))
    program = serialise_for_vela(recorded.trace)
    assert_same(expected, run_reference_model(program, [rows]))
    assert_same(expected, run_compiled(program, [rows], accelerator))
