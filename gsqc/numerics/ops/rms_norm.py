# SPDX-License-Identifier: Apache-2.0
"""rms_norm: y = x / rms(x) · weight, on rows.

Zhang & Sennrich 2019, "Root Mean Square Layer Normalization".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    normalise,
    reciprocal_root,
    row_sum,
    scale_by_constant,
    scaled_constant,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def row_mean(m: Tensor, e: Tensor) -> Scaled:
    """(m, e) with |m| < 2^30 -> the mean of a row, of 30 bits, off by 2^-29 of itself."""
    total, total_e = row_sum(m)
    return scale_by_constant(*normalise(total, total_e + e, 30), 1.0 / m.shape[-1])


def over_rms(m: Tensor, e: Tensor, eps: float) -> tuple[Scaled, Row, Row]:
    """(m, e) of 30 bits -> x̂ = x / √(mean(x²) + eps) of 30 bits, the same as a Row-16, and 1 / √.

    The last, of 30 bits, and the Row-16 are what a gradient needs. Σ x² is an exact sum of 30-bit
    products in two halves (n ≤ 2^15). 1/√ is made by a table and one Newton step.
    """
    n = m.shape[-1]
    square, square_e = row_sum(m.mulr30(m))
    square_e = square_e + (e + e) + 30
    smallest = scaled_constant(square, eps * n)
    total, total_e = add_scaled(square.round_shift(1), square_e + 1, *smallest)
    r, f = scale_by_constant(*reciprocal_root(total, total_e), math.sqrt(n))
    wide, wide_e = normalise(m.mulr30(r), e + f + 30, 30)
    unit = store_row(wide.round_shift(14).clamp(-32767, 32767), wide_e + 14, 16)
    return (wide, wide_e), unit, Row(r, f, 31)


def along(dz: Tensor, e: Tensor, unit: Row) -> Scaled:
    """dz of 30 bits -> x̂ · mean(dz · x̂), of 30 bits."""
    h = unit.mantissa
    dot, dot_e = row_mean(dz.mulr15(h), e + unit.e + 15)
    return normalise(dot.mulr15(h), dot_e + unit.e + 15, 30)


def through_rms(dz: Scaled, part: Scaled, scale: Row) -> Row:
    """(dz - part) · scale, a Row-24, for the residual stream: the gradient of `over_rms`, whose
    part is `along`.
    """
    (d, d_e), (a, a_e) = dz, part
    t, t_e = add_scaled(d.round_shift(1), d_e + 1, (0 - a).round_shift(1), a_e + 1)
    t, t_e = normalise(t, t_e, 30)
    return store_row(*normalise(t.mulr30(scale.mantissa), t_e + scale.e + 30, 24), 24)


@op(Kind.ROW)
def rms_norm(b: Builder, x: Row, weight: Row, *, eps: float) -> tuple[Row, Row, Row]:
    """x [T, n] Row, weight [1, n] Row-16 -> y Row-16 [T, n], x̂ = x / rms Row-16 and 1/rms [T, 1].

    x̂ and 1/rms are saved for the gradient. The rounding of the outputs to 16 bits dominates: 0.5
    ulp.
    """
    (wide, e), unit, scale = over_rms(*widen(x), eps)
    y = store_row(*normalise(wide.mulr15(weight.mantissa), e + weight.e + 15, 16), 16)
    return y, unit, scale


@op(Kind.ROW)
def rms_norm_grad(b: Builder, dy: Row, weight: Row, unit: Row, scale: Row) -> Row:
    """dy [T, n] Row, and what rms_norm saved -> dx Row-24 [T, n], for the residual stream.

    dx = (dz - x̂ · mean(dz · x̂)) / rms with dz = dy · weight
    """
    m, e = widen(dy)
    dz = normalise(m.mulr15(weight.mantissa), e + weight.e + 15, 30)
    return through_rms(dz, along(*dz, unit), scale)


@rms_norm.define_gradient
def _gradient(g: Any, call: Any, dy: Any, *_: Any) -> list[Any]:
    _, unit, scale = call.results
    return [g.call(rms_norm_grad, dy, call.args[1], unit, scale), None]


@cases(rms_norm)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (
        ("hidden", (9, 96), 24),
        ("ragged", (5, 37), 24),
        ("row-16", (6, 64), 16),
    ):
        yield Case(
            name, [random_row(rng, shape, bits), random_row(rng, (1, shape[1]), 16)], {"eps": 1e-5}
        )


@cases(rms_norm_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (("hidden", (9, 96), 16), ("ragged", (5, 37), 24)):
        scale = Row(
            rng.integers(2**29, 2**30, (shape[0], 1)).astype(np.int32),
            rng.integers(-40, -20, (shape[0], 1)).astype(np.int32),
            31,
        )
        values = [
            random_row(rng, shape, bits),
            random_row(rng, (1, shape[1]), 16),
            random_row(rng, shape, 16),
            scale,
        ]
        yield Case(name, values)
