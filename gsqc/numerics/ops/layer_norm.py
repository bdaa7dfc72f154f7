# SPDX-License-Identifier: Apache-2.0
"""layer_norm: y = (x - mean(x)) / σ(x) · weight + bias, on rows.

Ba, Kiros & Hinton 2016, "Layer Normalization".
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
    constant_like,
    normalise,
    reciprocal_root,
    row_sum,
    scale_by_constant,
    scale_by_power,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def _mean(m: Tensor, e: Tensor) -> Scaled:
    """(m, e) with |m| < 2^30 -> the mean of a row, of 30 bits, off by 2^-29 of itself."""
    total, total_e = row_sum(m)
    return scale_by_constant(*normalise(total, total_e + e, 30), 1.0 / m.shape[-1])


def _centred(m: Tensor, e: Tensor) -> Scaled:
    """(m, e) with |m| < 2^29 -> m minus its mean, of 30 bits, the mean rounded to a unit."""
    mean, mean_e = _mean(m, e)
    # The mean is no larger than the largest number, so its mantissa fits at that exponent.
    return normalise(m - scale_by_power(mean, (e - mean_e).clamp(-31, 31)), e, 30)


@op(Kind.ROW)
def layer_norm(b: Builder, x: Row, *affine: Row, eps: float) -> tuple[Row, Row, Row]:
    """x [T, n] Row -> y Row-16 [T, n], x̂ = (x - mean) / σ Row-16, and 1/σ [T, 1].

    affine  nothing, the weight [1, n] Row-16, or the weight and the bias [1, n] Row-16

    x̂ and 1/σ, which has 30 bits, are saved for the gradient. Sums are made as in rms_norm, for n ≤
    2^15. The rounding of the outputs to 16 bits dominates: 0.5 ulp.
    """
    n = x.shape[-1]
    m, e = _centred(*widen(x))
    square, square_e = row_sum(m.mulr30(m))
    square_e = square_e + (e + e) + 30
    fraction, exponent = np.frexp(eps * n)
    eps_m = constant_like(square, round(float(fraction) * 2**29))
    eps_e = constant_like(square, int(exponent) - 29)
    total, total_e = add_scaled(square.round_shift(1), square_e + 1, eps_m, eps_e)
    r, f = scale_by_constant(*reciprocal_root(total, total_e), math.sqrt(n))
    wide, wide_e = normalise(m.mulr30(r), e + f + 30, 30)
    unit = store_row(wide.round_shift(14).clamp(-32767, 32767), wide_e + 14, 16)
    y, y_e = wide, wide_e
    for weight in affine[:1]:
        y, y_e = normalise(wide.mulr15(weight.mantissa), wide_e + weight.e + 15, 30)
    for bias in affine[1:]:
        y, y_e = add_scaled(y.round_shift(1), y_e + 1, *widen(bias))
    return store_row(*normalise(y, y_e, 16), 16), unit, Row(r, f, 31)


@op(Kind.ROW)
def layer_norm_grad(b: Builder, dy: Row, unit: Row, scale: Row, *weight: Row) -> Row:
    """dy [T, n] Row, and what layer_norm saved -> dx Row-24 [T, n], for the residual stream.

    dx = (dz - mean(dz) - x̂ · mean(dz · x̂)) / σ with dz = dy · weight, or dy without a weight
    """
    dz, dz_e = widen(dy)
    for w in weight:
        dz, dz_e = normalise(dz.mulr15(w.mantissa), dz_e + w.e + 15, 30)
    h = unit.mantissa
    dot, dot_e = _mean(dz.mulr15(h), dz_e + unit.e + 15)
    dz, dz_e = _centred(dz.round_shift(1), dz_e + 1)
    along, along_e = normalise(dot.mulr15(h), dot_e + unit.e + 15, 30)
    t, t_e = add_scaled(dz.round_shift(1), dz_e + 1, (0 - along).round_shift(1), along_e + 1)
    t, t_e = normalise(t, t_e, 30)
    return store_row(*normalise(t.mulr30(scale.mantissa), t_e + scale.e + 30, 24), 24)


@layer_norm.define_gradient
def _gradient(g: Any, call: Any, dy: Any, *_: Any) -> list[Any]:
    """Weight and bias are frozen."""
    _, unit, scale = call.results
    _, *affine = call.args
    return [g.call(layer_norm_grad, dy, unit, scale, *affine[:1]), *(None for _ in affine)]


@cases(layer_norm)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (
        ("hidden", (9, 96), 24),
        ("ragged", (5, 37), 24),
        ("row-16", (6, 64), 16),
    ):
        x, w, c = random_row(rng, shape, bits), *(random_row(rng, (1, shape[1]), 16) for _ in "wc")
        for what, affine in ((", weight and bias", [w, c]), (", weight", [w]), ("", [])):
            yield Case(f"{name}{what}", [x, *affine], {"eps": 1e-5})
    largest = np.full((2, 32), 2**23 - 1, np.int32)
    largest[1, 0] = -(2**23) + 1
    yield Case("equal numbers", [Row(largest, np.full((2, 1), -20, np.int32), 24)], {"eps": 1e-5})


@cases(layer_norm_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (("hidden", (9, 96), 16), ("ragged", (5, 37), 24)):
        m = rng.integers(2**29, 2**30, (shape[0], 1)).astype(np.int32)
        scale = Row(m, rng.integers(-40, -20, (shape[0], 1)).astype(np.int32), 31)
        values = [random_row(rng, shape, bits), random_row(rng, shape, 16), scale]
        yield Case(name, values)
        yield Case(f"{name}, weight", [*values, random_row(rng, (1, shape[1]), 16)])
