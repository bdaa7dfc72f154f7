# SPDX-License-Identifier: Apache-2.0
"""Every case of every op on every CPU target that runs here, emulated ones included: the compiled
kernel gives numpy's integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.machine import machine_cpu_flags
from gsqc.numerics.formats import flatten
from gsqc.numerics.ops.registry import OPS, Case, Kind, evaluate
from gsqc.targets.kernels import Kernel, kernel_of
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS, CpuTarget
from gsqc.targets.llvm.run import call_kernel, load_kernels
from tests.numerics.ops.test_exact import COMPOSITE, PARAMETERS, all_cases
from tests.targets.llvm.emulated.run import run_emulated, what_is_missing

CompiledCases = dict[tuple[str, str], Callable[[], Any]]


@pytest.fixture(scope="module", params=CPU_TARGETS)
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CompiledCases:
    """Every case as a kernel of one library, for a CPU: what runs a case, or has run it under an
    emulator.
    """
    cpu = CPU_TARGETS[request.param]
    missing = set() if cpu.emulator else set(cpu.features) - machine_cpu_flags()
    reason = (
        what_is_missing(cpu) if cpu.emulator else f"this CPU has no {', '.join(sorted(missing))}"
    )
    if missing or (cpu.emulator and reason):
        pytest.skip(str(reason))
    wanted = [(n, c) for n, c in all_cases() if n not in COMPOSITE and OPS[n].kind is not Kind.VIEW]
    kernels, specs = [], []
    for k, (name, case) in enumerate(wanted):
        kernel, results = kernel_of(f"case_{k}", OPS[name], case.values, case.attributes)
        kernels.append(kernel)
        specs.append(results)
    keys = [(name, case.name) for name, case in wanted]
    if cpu.emulator:
        folder = tmp_path_factory.mktemp("emulated")
        done = _run_emulated(cpu, kernels, [c for _, c in wanted], specs, folder)
        return dict(zip(keys, done, strict=True))
    loaded = load_kernels(kernels, cpu)
    return {
        key: partial(call_kernel, loaded, kernel.name, case.values, results)
        for key, kernel, (_, case), results in zip(keys, kernels, wanted, specs, strict=True)
    }


def _run_emulated(
    cpu: CpuTarget, kernels: list[Kernel], chosen: list[Case], specs: list[Any], folder: Path
) -> list[Callable[[], Any]]:
    library = folder / "kernels.so"
    library.write_bytes(compile_kernels(kernels, cpu).library)
    calls = []
    for kernel, case, results in zip(kernels, chosen, specs, strict=True):
        inputs = [np.ravel(a) for a in flatten(tuple(case.values))]
        calls.append(
            (
                kernel.name,
                [*inputs, *(np.zeros(int(np.prod(s.shape)), s.dtype) for s in flatten(results))],
            )
        )
    done = []
    for after, results in zip(run_emulated(cpu, library, calls, folder), specs, strict=True):
        outputs = flatten(results)
        arrays = [a.reshape(s.shape) for a, s in zip(after[-len(outputs) :], outputs, strict=True)]
        done.append(partial(tuple, arrays))
    return done


@pytest.mark.parametrize(("name", "case"), [p for p in PARAMETERS if p.values[0] not in COMPOSITE])
def test_compiled_code_equals_numpy(name: str, case: Case, compiled: CompiledCases) -> None:
    golden = flatten(evaluate(OPS[name], case.values, case.attributes))
    for expected, got in zip(golden, flatten(compiled[name, case.name]()), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
