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
from gsqc.numerics.ops.curves import gelu_curve, gelu_share
from gsqc.numerics.ops.primitives import narrow16, normalise, store_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases, gate_grad_cases


@op(Kind.ROW)
def gelu_gate(b: Builder, gate: Row, up: Row, *, tanh: bool) -> Row:
    """gate, up [T, n] Row -> gate · Φ(gate) · up, Row-16 [T, n].

    tanh  whether Φ has the form with tanh, or is exact

    Two roundings to 16 bits dominate, as in silu_gate.
    """
    g, g_e = narrow16(gate)
    u, u_e = narrow16(up)
    share = gelu_share(g, g_e, tanh=tanh)
    return store_row(*normalise(share.mulr15(g).mulr15(u), g_e + u_e, 16), 16)


@op(Kind.ROW)
def gelu_gate_grad(b: Builder, dh: Row, gate: Row, up: Row, *, tanh: bool) -> tuple[Row, Row]:
    """dh, gate, up [T, n] Row -> d gate and d up, Row-16 [T, n].

        d up   = dh · g·Φ(g)
        d gate = dh · up · (Φ(g) + g·Φ'(g))

    The bracket is below 1.2 and held in Q29.
    """
    g, g_e = narrow16(gate)
    u, u_e = narrow16(up)
    d, d_e = narrow16(dh)
    share, slope = gelu_curve(g, g_e, tanh=tanh)
    d_up = normalise(share.mulr15(g).mulr15(d), g_e + d_e, 16)
    d_gate = normalise((d * u).mulr30(slope), d_e + u_e + 1, 16)
    return store_row(*d_gate, 16), store_row(*d_up, 16)


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
