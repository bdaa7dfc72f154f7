# SPDX-License-Identifier: Apache-2.0
"""clamped_gate: the gate of gpt-oss, g · σ(factor · g) · (u + 1) with g and u clamped.

OpenAI 2025, "gpt-oss model card", arXiv 2508.10925, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.clamp import bound_of
from gsqc.numerics.ops.curves import gated, gated_grad, sigmoid, silu_curve
from gsqc.numerics.ops.primitives import (
    add_scaled,
    narrow16,
    normalise,
    scaled_constant,
    store_row,
)
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import QUICK_GELU, gate_cases, gate_grad_cases


def _limited(x: Row, limit: float, *, both: bool) -> tuple[Row, Tensor]:
    """x at most `limit`, and at least -limit if `both`, Row-16; and where that changes nothing."""
    m, e = narrow16(x)
    bound = bound_of(Row(m, e, 16), limit).minimum(2**15)
    clamped = m.minimum(bound)
    clamped = clamped.maximum(0 - bound) if both else clamped
    return store_row(clamped, e, 16), clamped.equal(m)


def _plus_one(x: Row) -> Row:
    """x + 1, Row-16."""
    m, e = narrow16(x)
    return store_row(*normalise(*add_scaled(m << 14, e - 14, *scaled_constant(m, 1.0)), 16), 16)


@op(Kind.ROW)
def clamped_gate(b: Builder, gate: Row, up: Row, *, factor: float, limit: float) -> Row:
    """gate, up [..., n] Row -> g · σ(factor · g) · (u + 1), Row-16 [..., n], with g = min(gate,
    limit) and u = up between ±limit. 1.3 ulp.
    """
    g, _ = _limited(gate, limit, both=False)
    u, _ = _limited(up, limit, both=True)
    share, _ = sigmoid(*narrow16(g), factor)
    return gated(share, g, _plus_one(u))


@op(Kind.ROW)
def clamped_gate_grad(
    b: Builder, dh: Row, gate: Row, up: Row, *, factor: float, limit: float
) -> tuple[Row, Row]:
    """dh, gate, up [..., n] Row -> d gate and d up, Row-16. They are 0 where a clamp holds."""
    g, gate_counts = _limited(gate, limit, both=False)
    u, up_counts = _limited(up, limit, both=True)
    d_gate, d_up = gated_grad(*silu_curve(*narrow16(g), factor), dh, g, _plus_one(u))
    return _where(gate_counts, d_gate), _where(up_counts, d_up)


def _where(condition: Tensor, x: Row) -> Row:
    return store_row(where(condition, x.mantissa, 0), x.e, x.bits)


@clamped_gate.define_gradient
def _gradient(g: Any, call: Any, dh: Any) -> list[Any]:
    return list(g.call(clamped_gate_grad, dh, *call.args, **call.attributes))


@cases(clamped_gate)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_cases(rng):
        for limit in (7.0, 0.25):
            attributes = {"factor": QUICK_GELU, "limit": limit}
            yield Case(f"{case.name}, limit {limit}", case.values, attributes)


@cases(clamped_gate_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_grad_cases(rng):
        yield Case(case.name, case.values, {"factor": QUICK_GELU, "limit": 7.0})
