# SPDX-License-Identifier: Apache-2.0
"""quick_gelu: x · σ(1.702 · x), with and without a gate.

Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.curves import gated, gated_grad, sigmoid_curve
from gsqc.numerics.ops.primitives import narrow16, normalise, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases, gate_grad_cases


@op(Kind.ROW)
def quick_gelu(b: Builder, x: Row, *, factor: float) -> Row:
    """x [..., n] Row -> x · σ(factor · x), Row-16 [..., n]. 0.8 ulp."""
    m, e = narrow16(x)
    share, _ = sigmoid_curve(m, e, factor)
    return store_row(*normalise(share.mulr15(m), e + 15 - 30, 16), 16)


@op(Kind.ROW)
def quick_gelu_grad(b: Builder, dy: Row, x: Row, *, factor: float) -> Row:
    """dy, x [..., n] Row -> dx, Row-16 [..., n]. 0.9 ulp."""
    d, d_e = narrow16(dy)
    _, slope = sigmoid_curve(*narrow16(x), factor)
    return store_row(*normalise(slope.mulr15(d), d_e + 15 - 29, 16), 16)


@quick_gelu.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(quick_gelu_grad, dy, *call.args, **call.attributes)]


@op(Kind.ROW)
def quick_gelu_gate(b: Builder, gate: Row, up: Row, *, factor: float) -> Row:
    """gate, up [..., n] Row -> gate · σ(factor · gate) · up, Row-16 [..., n]. 0.8 ulp."""
    share, _ = sigmoid_curve(*narrow16(gate), factor)
    return gated(share, gate, up)


@op(Kind.ROW)
def quick_gelu_gate_grad(
    b: Builder, dh: Row, gate: Row, up: Row, *, factor: float
) -> tuple[Row, Row]:
    """dh, gate, up [..., n] Row -> d gate and d up, Row-16 [..., n]. 0.9 ulp."""
    return gated_grad(*sigmoid_curve(*narrow16(gate), factor), dh, gate, up)


@quick_gelu_gate.define_gradient
def _gate_gradient(g: Any, call: Any, dh: Any) -> list[Any]:
    return list(g.call(quick_gelu_gate_grad, dh, *call.args, **call.attributes))


_FACTOR = {"factor": 1.702}


@cases(quick_gelu_gate)
def _gate_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_cases(rng):
        yield Case(case.name, case.values, _FACTOR)


@cases(quick_gelu_gate_grad)
def _gate_grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_grad_cases(rng):
        yield Case(case.name, case.values, _FACTOR)


@cases(quick_gelu)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_cases(rng):
        yield Case(case.name, case.values[:1], _FACTOR)


@cases(quick_gelu_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_cases(rng):
        dy = random_row(rng, case.values[0].shape, 16)
        yield Case(case.name, [dy, case.values[0]], _FACTOR)
