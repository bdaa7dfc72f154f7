# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program on an emulated GPU: each of its features."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.registry import Kind, Op
from gsqc.targets.interface import Kernels
from gsqc.targets.kernels import kernel_of
from tests.targets.analysis.row_programs import CASES, assert_equals_numpy, wanted_kernels
from tests.targets.cuda.emulated import emulated_source, load_emulated


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Every program, in the emulation."""
    return load_emulated(wanted_kernels(), tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize(("program", "n"), CASES)
def test_a_row_kernel_equals_numpy(program: str, n: int, kernels: Kernels) -> None:
    assert_equals_numpy(program, n, kernels)


def _eighths(b: Builder, x: Tensor) -> tuple[Tensor, ...]:
    """Sums of eight numbers of a rotation: one thread takes all eight."""
    return (x.rotate().reshape(3, 4, 8).reduce_sum().reshape(3, 4),)


def test_a_rotation_needs_a_warp() -> None:
    """A lowering that would be wrong is an error."""
    operation = Op("eighths", Kind.ROW, _eighths)
    kernel, _ = kernel_of("eighths", operation, [np.zeros((3, 32), np.int32)], {})
    with pytest.raises(AssertionError, match="a rotation of one thread"):
        emulated_source([kernel])
