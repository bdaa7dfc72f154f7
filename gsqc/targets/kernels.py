# SPDX-License-Identifier: Apache-2.0
"""Kernels to be compiled. Each is the record of an op on given shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.plan import Plan
from gsqc.numerics.formats import Gse, Value, to_spec
from gsqc.numerics.operators.trace import Trace
from gsqc.numerics.ops.registry import OPS, Kind, Op, trace


@dataclass(frozen=True)
class Kernel:
    """An op on given shapes, to be compiled as the function `name`.

    It takes flat arrays: the trace's inputs, then its outputs. A MATMUL kernel's attributes hold
    x_bits and w_bits.
    """

    name: str
    kind: Kind
    trace: Trace
    attributes: dict[str, Any] = field(default_factory=dict)


def kernel_of(
    name: str, operation: Op, values: Sequence[Value], attributes: dict[str, Any]
) -> tuple[Kernel, Value]:
    """The kernel of an op on values (arrays or specs), and the specs of its results."""
    recorded, results = trace(operation, [to_spec(v) for v in values], attributes)
    # A trace has no more than dtypes, and the code of a product depends on the mantissas' bits.
    extra: dict[str, Any] = {}
    if operation.kind is Kind.MATMUL:
        x, w = values
        assert isinstance(x, Gse) and isinstance(w, Gse)
        extra = {"x_bits": x.bits, "w_bits": w.bits}
    return Kernel(name, operation.kind, recorded, {**attributes, **extra}), results


def plan_kernels(plan: Plan) -> list[Kernel]:
    """The kernels of a plan, ready to be compiled."""
    kernels = []
    for name, kernel in plan.kernels.items():
        values, attributes = kernel.call()
        kernels.append(kernel_of(name, OPS[kernel.op], values, attributes)[0])
    return kernels
