# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program on a CPU: each feature, in vectors and for single elements."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.bundle.machine import machine_cpu_flags
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.registry import Kind, Op, evaluate
from gsqc.targets.interface import Kernels
from gsqc.targets.kernels import kernel_of
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.run import call_kernel, load_kernels
from tests.targets.analysis.row_programs import CASES, assert_equals_numpy, wanted_kernels


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    """For a CPU that every x86-64 has."""
    return load_kernels(wanted_kernels(), CPU_TARGETS["x86-64-v2"])


@pytest.mark.parametrize(("program", "n"), CASES)
def test_a_row_program_equals_numpy(program: str, n: int, kernels: Kernels) -> None:
    assert_equals_numpy(program, n, kernels)


def _largest_of_repeated(b: Builder, groups: Tensor, repeated: Tensor) -> Tensor:
    rows, count, size = groups.shape
    return (repeated | (groups & 0)).reshape(rows, count * size).reduce_max()


@pytest.mark.parametrize("name", [n for n, cpu in CPU_TARGETS.items() if not cpu.emulator])
def test_a_row_may_repeat_few_elements(name: str) -> None:
    # LLVM 22 made vectors of the loop over single elements. Where an index was k % 4, they took
    # what lies behind the four elements. It did so from AVX2 on.
    cpu = CPU_TARGETS[name]
    if not set(cpu.features) <= machine_cpu_flags():
        pytest.skip(f"this CPU is no {name}")
    rng = np.random.default_rng(0)
    programs = []
    for rows, count, size in ((24, 16, 4), (24, 32, 4), (40, 16, 4), (24, 64, 2), (24, 9, 8)):
        values = [rng.integers(-1000, 1000, (rows, n, size)).astype(np.int32) for n in (count, 1)]
        operation = Op(f"repeat_{rows}_{count}_{size}", Kind.ROW, _largest_of_repeated)
        kernel, results = kernel_of(operation.name, operation, values, {})
        programs.append((operation, values, kernel, results))
    loaded = load_kernels([kernel for _, _, kernel, _ in programs], cpu)
    for operation, values, kernel, results in programs:
        got = call_kernel(loaded, kernel.name, values, results)
        np.testing.assert_array_equal(got, evaluate(operation, values, {}), operation.name)
