# SPDX-License-Identifier: Apache-2.0
"""Compile one op and run it on arrays: for tests and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gsqc.bundle.machine import default_threads
from gsqc.numerics.formats import Value, flatten, map_tensors
from gsqc.numerics.ops.registry import Op
from gsqc.targets.host_memory import aligned_bytes
from gsqc.targets.interface import Array, Call
from gsqc.targets.kernels import Kernel, kernel_of
from gsqc.targets.llvm.compile import compile_kernels
from gsqc.targets.llvm.cpu import CPU_TARGETS, CpuTarget
from gsqc.targets.llvm.kernels import CompiledKernels


def load_kernels(kernels: Sequence[Kernel], cpu: CpuTarget) -> CompiledKernels:
    """Compile kernels and load them into this process."""
    loaded = CompiledKernels(compile_kernels(kernels, cpu).library)
    loaded.set_threads(default_threads())
    return loaded


def aligned_copy(array: Array) -> Array:
    """A flat, aligned copy."""
    copy = aligned_bytes(array.nbytes).view(array.dtype)
    copy[:] = np.asarray(array).reshape(-1)
    return copy


def call_kernel(
    kernels: CompiledKernels, name: str, values: Sequence[Value], results: Value
) -> Value:
    """Run a loaded kernel on arrays. `results` are specs, whose structure the result has."""
    inputs = [aligned_copy(a) for a in flatten(tuple(values))]
    outputs = [aligned_bytes(s.size_bytes).view(s.dtype) for s in flatten(results)]
    kernels.program([Call(name, name, [*inputs, *outputs])]).run()
    remaining = iter(outputs)
    return map_tensors(results, lambda s: next(remaining).reshape(s.shape))


def run_op(
    operation: Op,
    values: Sequence[Value],
    attributes: dict[str, Any],
    cpu: CpuTarget = CPU_TARGETS["x86-64"],
) -> Value:
    """An op's results from compiled code: compile the one op, run it, arrays in and out."""
    kernel, results = kernel_of(f"kernel_{operation.name}", operation, values, attributes)
    return call_kernel(load_kernels([kernel], cpu), kernel.name, values, results)
