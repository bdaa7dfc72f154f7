# SPDX-License-Identifier: Apache-2.0
"""The time of a step: its heaviest kernels are compiled and measured here, the others follow from
their work.

Kernels run on random operands in warm caches, without the runtime's own time per call. A real step
takes longer, by a factor that was measured (docs/plan.md).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gsqc.bundle.machine import default_threads
from gsqc.bundle.plan import KernelPlan
from gsqc.compiler.estimate.work import Work, kernel_work, step_calls
from gsqc.numerics.formats import Gse, Row, Value, flatten, largest, largest_operand
from gsqc.numerics.ops.registry import OPS, Kind
from gsqc.passes.step import Step
from gsqc.targets.host_memory import aligned_bytes
from gsqc.targets.interface import Array, Call
from gsqc.targets.kernels import kernel_of
from gsqc.targets.registry import find_target

MEASURED_KERNELS = 12
STEP_OVER_KERNELS = 1.55
"""A real step's time without its digest, over the sum of its kernels' as a probe measures them:
1.51 to 1.62.
"""
_RUN_SECONDS = 0.05
REFERENCE_RATES = {Kind.MATMUL: 150e9, Kind.ROW: 15e9, Kind.LAYOUT: 2e9}
"""Products, and elements of operators, in a second of one thread of the machine of
docs/performance.md (Zen 4).
"""
REFERENCE_HASH_RATE = 1.2e9
"""Bytes of state that sha256 takes in a second of one thread, with the CPU's instructions for it.
"""

Key = tuple[str, str]


@dataclass
class Rates:
    """What a probe found: seconds of single kernels, and rates for the others; or the reference,
    not `measured`.
    """

    measured: bool
    threads: int
    per_second: dict[Kind, float]
    hash_per_second: float
    seconds: dict[Key, float] = field(default_factory=dict)

    def kernel_seconds(self, kernel: KernelPlan, work: Work) -> float:
        """The time of one run."""
        return self.seconds.get(_key(kernel), work.amount / self.per_second[work.kind])


def reference_rates() -> Rates:
    """Rates of another machine, where none can be measured."""
    threads = default_threads()
    return Rates(
        False,
        threads,
        {k: rate * threads for k, rate in REFERENCE_RATES.items()},
        REFERENCE_HASH_RATE * threads,
    )


def step_seconds(step: Step, batch: int, rates: Rates) -> float:
    """The time of one step of `batch` sequences: its kernels, and the digest of the state."""
    work, calls = kernel_work(step.kernels), step_calls(step.plan, batch)
    kernels = sum(
        n * rates.kernel_seconds(step.plan.kernels[name], work[name]) for name, n in calls.items()
    )
    return STEP_OVER_KERNELS * kernels + step.plan.buffer_bytes("state") / rates.hash_per_second


def probe(step: Step, batch: int, target: str) -> Rates:
    """Measure the heaviest kernels of a step on this machine. Raises TargetError."""
    work, calls = kernel_work(step.kernels), step_calls(step.plan, batch)
    chosen = _heaviest(step, work, calls)
    specs = {name: step.plan.kernels[name].call() for name in chosen}
    built = {n: kernel_of(n, OPS[step.plan.kernels[n].op], v, a) for n, (v, a) in specs.items()}
    kernels = find_target(target).compile_here([kernel for kernel, _ in built.values()])
    generator = np.random.default_rng(0)
    seconds: dict[str, float] = {}
    for name, (_, results) in built.items():
        inputs = [array for value in specs[name][0] for array in _operands(value, generator)]
        outputs = [aligned_bytes(s.size_bytes).view(s.dtype) for s in flatten(results)]
        seconds[name] = _best_seconds(kernels.program([Call(name, name, [*inputs, *outputs])]).run)
    rates = {kind: _rate(kind, seconds, work, calls) for kind in REFERENCE_RATES}
    measured = {_key(step.plan.kernels[name]): value for name, value in seconds.items()}
    return Rates(True, default_threads(), rates, _hash_rate(), measured)


def _key(kernel: KernelPlan) -> Key:
    """Equal for equal kernels, whatever their names are in a plan."""
    return kernel.op, repr((sorted(kernel.attributes.items()), kernel.inputs))


def _heaviest(step: Step, work: dict[str, Work], calls: Counter[str]) -> list[str]:
    """The kernels that by the reference take the most time, and one of each kind at least."""
    cost = {
        name: n * work[name].amount / REFERENCE_RATES[work[name].kind] for name, n in calls.items()
    }
    order = sorted(cost, key=lambda name: (-cost[name], name))
    firsts = {work[name].kind: name for name in reversed(order)}
    return list(dict.fromkeys([*order[:MEASURED_KERNELS], *firsts.values()]))


def _rate(
    kind: Kind, seconds: dict[str, float], work: dict[str, Work], calls: Counter[str]
) -> float:
    """The rate of a kind, weighted by what the step calls. Without such calls, the reference's."""
    names = [name for name in seconds if work[name].kind is kind]
    if not names:
        return REFERENCE_RATES[kind] * default_threads()
    return sum(calls[n] * work[n].amount for n in names) / sum(calls[n] * seconds[n] for n in names)


def _operands(value: Value, generator: np.random.Generator) -> list[Array]:
    """Flat random operands of a spec. Bare tensors are zeros: they may be indices."""
    arrays = [aligned_bytes(spec.size_bytes).view(spec.dtype) for spec in flatten(value)]
    if isinstance(value, (Gse, Row)):
        limit = (largest_operand if isinstance(value, Gse) else largest)(value.bits)
        arrays[0][:] = generator.integers(-limit, limit + 1, arrays[0].size)
    if isinstance(value, Gse):
        arrays[1][:] = generator.integers(0, 4, arrays[1].size)
    return arrays


def _best_seconds(run: Callable[[], object]) -> float:
    """The least time of several runs after a first one."""
    run()
    best, until = float("inf"), time.monotonic() + _RUN_SECONDS
    while True:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.monotonic() >= until:
            return best


def _hash_rate() -> float:
    """Bytes in a second of all threads: a session hashes its tensors in parallel."""
    data = bytes(8 << 20)
    return default_threads() * len(data) / _best_seconds(lambda: hashlib.sha256(data))
