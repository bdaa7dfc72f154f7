# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program on an emulated GPU: each of its features."""

from __future__ import annotations

import pytest

from gsqc.targets.interface import Kernels
from tests.targets.analysis.row_programs import CASES, assert_equals_numpy, wanted_kernels
from tests.targets.cuda.emulated import load_emulated


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Every program, in the emulation."""
    return load_emulated(wanted_kernels(), tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize(("program", "n"), CASES)
def test_a_row_kernel_equals_numpy(program: str, n: int, kernels: Kernels) -> None:
    assert_equals_numpy(program, n, kernels)
