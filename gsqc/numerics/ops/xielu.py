# SPDX-License-Identifier: Apache-2.0
"""xielu: an activation with two learned numbers, one for each side of 0.

Huang & Schlag 2024, "Deriving Activation Functions Using Integration", arXiv 2411.13010.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    exp2_negative,
    narrow16,
    normalise_mixed,
    scaled_constant,
    store_row,
    to_log2_units,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases


def _rise(m: Tensor, e: Tensor) -> Tensor:
    """1 - exp(x) in Q30 for x ≤ 0, and 0 for others. Off by 2^-21."""
    return 2**30 - exp2_negative((0 - to_log2_units(m << 14, e - 14)).clamp(0, 40 << 16), fine=True)


def _sum(x: Scaled, y: Scaled) -> Scaled:
    """x + y with |m| ≤ 2^30, as a factor of `mulr15` is, and an exponent for each element."""
    m, e = add_scaled(*x, *y)
    return m.round_shift(1), (e + 1) | (m & 0)


def _at(condition: Tensor, x: Scaled, y: Scaled) -> Scaled:
    """x where the condition holds, else y. The exponents are those of each element."""
    return where(condition, x[0], y[0]), where(condition, x[1], y[1])


def _slopes(x: Row, positive: Row, negative: Row, beta: float) -> tuple[Scaled, Scaled]:
    """positive · x for each x, and -negative · (1 - exp(x)), which is its part below 0."""
    (m, e), (p, p_e), (n, n_e) = narrow16(x), narrow16(positive), narrow16(negative)
    below = 0 - _rise(m, e).mulr15(n)
    return (m * p, e + p_e), (below, (n_e - 15) | (m & 0))


@op(Kind.ROW)
def xielu(b: Builder, x: Row, positive: Row, negative: Row, *, beta: float) -> Row:
    """x [T, n] Row, positive and negative Row [1, 1] -> Row-16 [T, n]:

        positive · x² + beta · x                       where x > 0
        negative · (exp(x) - 1 - x) + beta · x         elsewhere

    1 ulp of a row whose largest number is 0.01 or more: below 0, exp is off by 2^-21.
    """
    m, e = narrow16(x)
    n, n_e = narrow16(negative)
    above, below = _slopes(x, positive, negative, beta)
    line = _sum(above, scaled_constant(m, beta))
    rest = _sum(scaled_constant(m, beta), (0 - (n << 14), n_e - 14))
    first = line[0].mulr15(m), line[1] + e + 15
    straight = rest[0].mulr15(m), (rest[1] + e + 15) | (m & 0)
    y = _at(m.greater(0), first, _sum(below, straight))
    return store_row(*normalise_mixed(*y, 16), 16)


@op(Kind.ROW)
def xielu_grad(b: Builder, dy: Row, x: Row, positive: Row, negative: Row, *, beta: float) -> Row:
    """dy, x [T, n] Row -> dx, Row-16 [T, n], dy times

    2 · positive · x + beta            where x > 0
    negative · (exp(x) - 1) + beta     elsewhere
    """
    d, d_e = narrow16(dy)
    (above, above_e), below = _slopes(x, positive, negative, beta)
    known = scaled_constant(d, beta)
    slope = _at(
        x.mantissa.greater(0),
        _sum((above, above_e + 1), known),
        _sum(below, known),
    )
    return store_row(*normalise_mixed(slope[0].mulr15(d), slope[1] + d_e + 15, 16), 16)


@xielu.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(xielu_grad, dy, *call.args, **call.attributes), None, None]


def _numbers() -> list[Row]:
    return [
        Row(np.array([[m]], np.int16), np.full((1, 1), -15, np.int32), 16) for m in (26214, 29000)
    ]


@cases(xielu)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in gate_cases(rng):
        yield Case(case.name, [case.values[0], *_numbers()], {"beta": 0.5})


@cases(xielu_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in _cases(rng):
        dy = random_row(rng, case.values[0].shape, 16)
        yield Case(case.name, [dy, *case.values], case.attributes)
