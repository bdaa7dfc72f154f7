# SPDX-License-Identifier: Apache-2.0
"""layer_norm: y = (x - mean(x)) / σ(x) · weight + bias, on rows.

Ba, Kiros & Hinton 2016, "Layer Normalization".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    normalise,
    scale_by_power,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.rms_norm import along, over_rms, row_mean, through_rms


def _centred(m: Tensor, e: Tensor) -> Scaled:
    """(m, e) with |m| < 2^29 -> m minus its mean, of 30 bits, the mean rounded to a unit."""
    mean, mean_e = row_mean(m, e)
    # The mean is no larger than the largest number, so its mantissa fits at that exponent.
    return normalise(m - scale_by_power(mean, (e - mean_e).clamp(-31, 31)), e, 30)


@op(Kind.ROW)
def layer_norm(b: Builder, x: Row, *affine: Row, eps: float) -> tuple[Row, Row, Row]:
    """x [T, n] Row -> y Row-16 [T, n], x̂ = (x - mean) / σ Row-16, and 1/σ [T, 1].

    affine  nothing, the weight [1, n] Row-16, or the weight and the bias [1, n] Row-16

    x̂ and 1/σ are saved for the gradient. The rounding of the outputs to 16 bits dominates: 0.5
    ulp.
    """
    (wide, wide_e), unit, scale = over_rms(*_centred(*widen(x)), eps)
    y, y_e = wide, wide_e
    for weight in affine[:1]:
        y, y_e = normalise(wide.mulr15(weight.mantissa), wide_e + weight.e + 15, 30)
    for bias in affine[1:]:
        y, y_e = add_scaled(y.round_shift(1), y_e + 1, *widen(bias))
    return store_row(*normalise(y, y_e, 16), 16), unit, scale


@op(Kind.ROW)
def layer_norm_grad(b: Builder, dy: Row, unit: Row, scale: Row, *weight: Row) -> Row:
    """dy [T, n] Row, and what layer_norm saved -> dx Row-24 [T, n], for the residual stream.

    dx = (dz - mean(dz) - x̂ · mean(dz · x̂)) / σ with dz = dy · weight, or dy without a weight
    """
    dz, dz_e = widen(dy)
    for w in weight:
        dz, dz_e = normalise(dz.mulr15(w.mantissa), dz_e + w.e + 15, 30)
    part = along(dz, dz_e, unit)
    return through_rms(_centred(dz.round_shift(1), dz_e + 1), part, scale)


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
