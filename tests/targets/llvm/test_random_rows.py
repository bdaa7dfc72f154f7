# SPDX-License-Identifier: Apache-2.0
"""Random row programs on every CPU target that runs here: the compiled kernel equals numpy.

tests/targets/arm_npu and tests/targets/tosa do the same with programs of the other kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.machine import machine_cpu_flags
from gsqc.numerics.formats import Value, flatten
from gsqc.numerics.ops.registry import Op, evaluate
from gsqc.targets.kernels import Kernel, kernel_of
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS, CpuTarget
from gsqc.targets.llvm.run import call_kernel, load_kernels
from tests.targets.analysis.random_rows import random_row_program
from tests.targets.llvm.emulated.run import run_emulated, what_is_missing

NATIVE = [name for name, cpu in CPU_TARGETS.items() if not cpu.emulator]


@dataclass(frozen=True)
class _Program:
    operation: Op
    inputs: list[np.ndarray]
    kernel: Kernel
    results: Value
    golden: list[np.ndarray]


def _program(number: int) -> _Program:
    operation, inputs = random_row_program(number)
    golden = flatten(evaluate(operation, list(inputs), {}))
    kernel, results = kernel_of(operation.name, operation, inputs, {})
    return _Program(operation, inputs, kernel, results, golden)


def _run(cpu: CpuTarget, programs: Sequence[_Program], folder: Path) -> list[list[np.ndarray]]:
    kernels = [p.kernel for p in programs]
    if not cpu.emulator:
        loaded = load_kernels(kernels, cpu)
        return [flatten(call_kernel(loaded, p.kernel.name, p.inputs, p.results)) for p in programs]
    library = folder / "kernels.so"
    library.write_bytes(compile_kernels(kernels, cpu).library)
    calls = [
        (
            p.kernel.name,
            [*(a.ravel() for a in p.inputs), *(np.zeros(g.size, g.dtype) for g in p.golden)],
        )
        for p in programs
    ]
    after = run_emulated(cpu, library, calls, folder)
    return [arrays[len(p.inputs) :] for arrays, p in zip(after, programs, strict=True)]


def _check(name: str, numbers: range, folder: Path) -> None:
    cpu = CPU_TARGETS[name]
    missing = what_is_missing(cpu) if cpu.emulator else set(cpu.features) - machine_cpu_flags()
    if missing:
        pytest.skip(f"{name} does not run here: {missing}")
    programs = [_program(n) for n in numbers]
    for program, results in zip(programs, _run(cpu, programs, folder), strict=True):
        for expected, got in zip(program.golden, results, strict=True):
            np.testing.assert_array_equal(
                got.reshape(expected.shape), expected, program.operation.name
            )


@pytest.mark.parametrize("name", NATIVE)
def test_random_row_programs(name: str, tmp_path: Path) -> None:
    _check(name, range(20), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CPU_TARGETS)
def test_random_row_programs_500(name: str, tmp_path: Path) -> None:
    _check(name, range(20, 520), tmp_path)
