# SPDX-License-Identifier: Apache-2.0
"""Every op on every case: numpy never overflows, and the compiled kernel gives the same integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gsqc.ops.all  # noqa: F401
from gsqc.bundle import machine_cpu_flags
from gsqc.formats import flatten, to_spec
from gsqc.ops.registry import CASES, OPS, Case, Kind, evaluate, trace
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.run import call_kernel, kernel_of, load_kernels

CompiledCases = tuple[Any, dict[tuple[str, str], tuple[str, Any]]]
COMPOSITE = {"linear", "linear_accumulate"}
"""Graph-level ops that expand_linear replaces before code is generated."""


def all_cases() -> Iterator[tuple[str, Case]]:
    for name in sorted(CASES):
        yield from ((name, case) for case in CASES[name](np.random.default_rng(20261123)))


PARAMETERS = [pytest.param(name, case, id=f"{name}-{case.name}") for name, case in all_cases()]


def test_every_op_has_cases() -> None:
    without = {n for n, o in OPS.items() if o.kind is not Kind.VIEW} - set(CASES)
    assert without <= COMPOSITE


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_numpy_fits_its_types(name: str, case: Case) -> None:
    """Evaluation asserts each operator's range; the recorded program infers the same shapes and types."""
    results = flatten(evaluate(OPS[name], case.values, case.attributes))
    _, specs = trace(OPS[name], [to_spec(v) for v in case.values], case.attributes)
    assert [(r.shape, str(r.dtype)) for r in results] == [(s.shape, s.dtype) for s in flatten(specs)]


@pytest.fixture(scope="module", params=CPU_TARGETS)
def compiled(request: pytest.FixtureRequest) -> CompiledCases:
    """Every case as a kernel of one library, for a CPU."""
    cpu = CPU_TARGETS[request.param]
    missing = set(cpu.features) - machine_cpu_flags()
    if missing:
        pytest.skip(f"this CPU has no {', '.join(sorted(missing))}")
    wanted = [(n, c) for n, c in all_cases() if n not in COMPOSITE and OPS[n].kind is not Kind.VIEW]
    kernels, specs = [], {}
    for k, (name, case) in enumerate(wanted):
        kernel, results = kernel_of(f"case_{k}", OPS[name], case.values, case.attributes)
        kernels.append(kernel)
        specs[name, case.name] = (kernel.name, results)
    return load_kernels(kernels, cpu), specs


@pytest.mark.parametrize(("name", "case"), [p for p in PARAMETERS if p.values[0] not in COMPOSITE])
def test_compiled_code_equals_numpy(name: str, case: Case, compiled: CompiledCases) -> None:
    golden = flatten(evaluate(OPS[name], case.values, case.attributes))
    kernels, specs = compiled
    symbol, results = specs[name, case.name]
    for expected, got in zip(golden, flatten(call_kernel(kernels, symbol, case.values, results)), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
