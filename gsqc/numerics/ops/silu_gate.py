# SPDX-License-Identifier: Apache-2.0
"""silu_gate: h = silu(gate) · up, the SwiGLU activation, also with the factor of quick_gelu.

Shazeer 2020, "GLU Variants Improve Transformer", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.curves import gated, gated_grad, sigmoid, silu_curve
from gsqc.numerics.ops.primitives import narrow16
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, CaseGenerator, Kind, cases, op

QUICK_GELU = 1.702
"""The factor with which x · σ(factor · x) is near GELU."""


@op(Kind.ROW)
def silu_gate(b: Builder, gate: Row, up: Row, *, factor: float = 1.0) -> Row:
    """gate, up [T, n] Row-16 -> gate · σ(factor · gate) · up, Row-16 [T, n]. 0.8 ulp."""
    sigma, _ = sigmoid(*narrow16(gate), factor)
    return gated(sigma, gate, up)


@op(Kind.ROW)
def silu_gate_grad(
    b: Builder, dh: Row, gate: Row, up: Row, *, factor: float = 1.0
) -> tuple[Row, Row]:
    """dh, gate, up [T, n] Row -> d gate and d up, Row-16 [T, n]. 0.9 ulp.

        d up   = dh · g·σ
        d gate = dh · up · (σ + factor·g·σ·(1 - σ))

    The bracket is below 1.2 and held in Q29.
    """
    sigma, slope = silu_curve(*narrow16(gate), factor)
    return gated_grad(sigma, slope, dh, gate, up)


@silu_gate.define_gradient
def _gradient(g: Any, call: Any, dh: Any) -> list[Any]:
    return list(g.call(silu_gate_grad, dh, *call.args, **call.attributes))


def gate_rows(rng: np.random.Generator, shape: tuple[int, ...], octave: int) -> Row:
    """Random Row-16 whose largest numbers are near 2^(octave + 15)."""
    m = rng.integers(-(2**15) + 1, 2**15, shape).astype(np.int16)
    return Row(m, rng.integers(octave - 2, octave + 3, (*shape[:-1], 1)).astype(np.int32), 16)


def gate_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Cases of a gate and an up: usual sizes, ragged, of any size, and saturated."""
    yield Case("usual", [gate_rows(rng, (9, 96), -13), random_row(rng, (9, 96), 16)])
    yield Case("ragged", [gate_rows(rng, (5, 37), -11), random_row(rng, (5, 37), 16)])
    yield Case("any", [random_row(rng, (6, 64), 16), random_row(rng, (6, 64), 16)])
    yield Case("saturated", [gate_rows(rng, (4, 32), 8), random_row(rng, (4, 32), 16)])


def gate_grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Those of `gate_cases` with a gradient before them."""
    for case in gate_cases(rng):
        yield Case(case.name, [random_row(rng, case.values[0].shape, 16), *case.values])


def with_factors(given: CaseGenerator) -> CaseGenerator:
    """The cases without a factor, and again with that of quick_gelu."""

    def both(rng: np.random.Generator) -> Iterator[Case]:
        yield from given(rng)
        for case in given(rng):
            yield Case(f"{case.name}, a factor", case.values, {"factor": QUICK_GELU})

    return both


cases(silu_gate)(with_factors(gate_cases))
cases(silu_gate_grad)(with_factors(gate_grad_cases))
