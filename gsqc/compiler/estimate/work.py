# SPDX-License-Identifier: Apache-2.0
"""The work of a step: how often each kernel runs, and how much one run of it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from gsqc.bundle.plan import COPY, Plan
from gsqc.bundle.step_runs import step_runs
from gsqc.numerics.ops.registry import Kind
from gsqc.passes.step import KernelTable

_FREE = ("input", "const", "reshape", "slice")


@dataclass(frozen=True)
class Work:
    """One run of a kernel: products of a matmul, or elements that other operators make."""

    kind: Kind
    amount: int


def kernel_work(table: KernelTable) -> dict[str, Work]:
    """The work of each kernel."""
    return {name: Work(kind, _amount(table, name, kind)) for name, kind in table.kinds.items()}


def _amount(table: KernelTable, name: str, kind: Kind) -> int:
    trace = table.traces[name]
    if kind is Kind.MATMUL:
        (rows, columns), depth = trace.outputs[0].shape[-2:], trace.inputs[0].shape[-1]
        return prod(trace.outputs[0].shape[:-2]) * rows * columns * depth
    return sum(prod(node.shape) for node in trace.live_nodes() if node.operator not in _FREE)


def step_calls(plan: Plan, batch: int) -> Counter[str]:
    """How often each kernel runs in a step of `batch` sequences."""
    calls: Counter[str] = Counter()
    for schedule, runs in step_runs(plan, batch).items():
        for kernel, count in _schedule_calls(plan, schedule).items():
            calls[kernel] += runs * count
    return calls


def _schedule_calls(plan: Plan, schedule: str) -> Counter[str]:
    functions = Counter(name for name, _ in plan.schedules[schedule].calls if name != COPY)
    calls: Counter[str] = Counter()
    for function, count in functions.items():
        for kernel, _ in plan.functions[function].calls:
            calls[kernel] += count
    return calls
