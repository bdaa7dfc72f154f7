# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program on a CPU: each feature, in vectors and for single elements."""

from __future__ import annotations

import pytest

from gsqc.targets.interface import Kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.run import load_kernels
from tests.targets.analysis.row_programs import CASES, assert_equals_numpy, wanted_kernels


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    """For a CPU that every x86-64 has."""
    return load_kernels(wanted_kernels(), CPU_TARGETS["x86-64-v2"])


@pytest.mark.parametrize(("program", "n"), CASES)
def test_a_row_program_equals_numpy(program: str, n: int, kernels: Kernels) -> None:
    assert_equals_numpy(program, n, kernels)
