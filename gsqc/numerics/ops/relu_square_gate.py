# SPDX-License-Identifier: Apache-2.0
"""relu_square_gate: h = relu(gate)² · up, the gated layer of BitNet.

So et al. 2021, "Primer", arXiv 2109.08668, section 4.1, has the squared ReLU.
"""

from __future__ import annotations

from typing import Any

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.primitives import narrow16, normalise, store_row
from gsqc.numerics.ops.registry import Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases, gate_grad_cases


@op(Kind.ROW)
def relu_square_gate(b: Builder, gate: Row, up: Row) -> Row:
    """gate, up [T, n] Row -> relu(gate)² · up, Row-16 [T, n]. The square is exact. 0.5 ulp."""
    g, g_e = narrow16(gate)
    u, u_e = narrow16(up)
    r = g.maximum(0)
    return store_row(*normalise((r * r).mulr15(u), g_e + g_e + u_e + 15, 16), 16)


@op(Kind.ROW)
def relu_square_gate_grad(b: Builder, dh: Row, gate: Row, up: Row) -> tuple[Row, Row]:
    """dh, gate, up [T, n] Row -> d gate and d up, Row-16 [T, n]. 0.5 ulp.

    d up   = dh · relu(g)²
    d gate = dh · up · 2 · relu(g)
    """
    g, g_e = narrow16(gate)
    u, u_e = narrow16(up)
    d, d_e = narrow16(dh)
    r = g.maximum(0)
    d_up = normalise((r * r).mulr15(d), g_e + g_e + d_e + 15, 16)
    d_gate = normalise((r * u).mulr15(d), g_e + u_e + d_e + 16, 16)
    return store_row(*d_gate, 16), store_row(*d_up, 16)


@relu_square_gate.define_gradient
def _gradient(g: Any, call: Any, dh: Any) -> list[Any]:
    return list(g.call(relu_square_gate_grad, dh, *call.args))


cases(relu_square_gate)(gate_cases)
cases(relu_square_gate_grad)(gate_grad_cases)
