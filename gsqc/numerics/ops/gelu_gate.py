# SPDX-License-Identifier: Apache-2.0
"""gelu_gate: h = gelu(gate) · up, the GEGLU activation of Gemma.

Shazeer 2020, "GLU Variants Improve Transformer", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.curves import gated, gated_grad, gelu_curve, gelu_share
from gsqc.numerics.ops.primitives import narrow16
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases, gate_grad_cases


@op(Kind.ROW)
def gelu_gate(b: Builder, gate: Row, up: Row, *, tanh: bool) -> Row:
    """gate, up [T, n] Row -> gate · Φ(gate) · up, Row-16 [T, n].

    tanh  whether Φ has the form with tanh, or is exact

    Two roundings to 16 bits dominate, as in silu_gate.
    """
    return gated(gelu_share(*narrow16(gate), tanh=tanh), gate, up)


@op(Kind.ROW)
def gelu_gate_grad(b: Builder, dh: Row, gate: Row, up: Row, *, tanh: bool) -> tuple[Row, Row]:
    """dh, gate, up [T, n] Row -> d gate and d up, Row-16 [T, n].

        d up   = dh · g·Φ(g)
        d gate = dh · up · (Φ(g) + g·Φ'(g))

    The bracket is below 1.2 and held in Q29.
    """
    share, slope = gelu_curve(*narrow16(gate), tanh=tanh)
    return gated_grad(share, slope, dh, gate, up)


@gelu_gate.define_gradient
def _gradient(g: Any, call: Any, dh: Any) -> list[Any]:
    return list(g.call(gelu_gate_grad, dh, *call.args, **call.attributes))


@cases(gelu_gate)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for tanh in (True, False):
        for case in gate_cases(rng):
            yield Case(f"{case.name} tanh={tanh}", case.values, {"tanh": tanh})


@cases(gelu_gate_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for tanh in (True, False):
        for case in gate_grad_cases(rng):
            yield Case(f"{case.name} tanh={tanh}", case.values, {"tanh": tanh})
