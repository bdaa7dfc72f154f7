# SPDX-License-Identifier: Apache-2.0
"""Activation functions as shares: f(x) = x · share(x), with share in [0, 1], and the slope f'(x).

x is a pair (m, e) with |m| < 2^15. A share is in Q30, a slope in Q29, which holds |slope| < 2.

silu(x) = x · σ(factor · x), with a factor of 1, or of 1.702 in quick_gelu. gelu(x) = x · Φ(x), with
the distribution function Φ of a normal number. Its form with tanh is x · σ(1.6·x + 0.07·x³).
Hendrycks & Gimpel 2016, "Gaussian Error Linear Units".
"""

from __future__ import annotations

import math

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Tensor, where
from gsqc.numerics.ops.primitives import (
    RECIPROCAL,
    exp2_negative,
    lookup30,
    lookup30_fine,
    narrow16,
    normalise,
    q31,
    saturating_scale,
    scale_by_constant,
    scale_by_power,
    store_row,
    table_pair,
    to_log2_units,
)

GELU_END = 8.0
"""GELU clamps x to ±8 within its share. Φ(-8) is 2^-50."""
_UNIT = 2**26
"""x within GELU is in Q26, so ±8 is ±2^29."""
_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715
_LOG2_E = math.log2(math.e)


def _sigmoid_of(t: Tensor) -> tuple[Tensor, Tensor]:
    """t in Q16 octaves -> 1 / (1 + 2^-t) and 1 minus that, in Q30, relative error 2^-16."""
    z = exp2_negative(t.abs().minimum(40 << 16))
    larger = lookup30(z.round_shift(14).minimum(65535), RECIPROCAL)  # 1 / (1 + z)
    smaller = z.mulr30(larger)
    positive = t.greater(-1)
    return where(positive, larger, smaller), where(positive, smaller, larger)


def sigmoid(m: Tensor, e: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """σ(factor · x) and 1 minus that in Q30, each with a relative error of 2^-16."""
    return _sigmoid_of(to_log2_units(m << 14, e - 14, factor))


def silu_curve(m: Tensor, e: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """σ(factor · x) in Q30, and σ + factor·x·σ·(1 - σ) in Q29, which is below 1.2."""
    sigma, rest = sigmoid(m, e, factor)
    rise, rise_e = sigma.mulr30(rest).mulr15(m), e + 15
    if factor != 1:
        rise, rise_e = scale_by_constant(rise, rise_e, factor)
    rise = scale_by_power(rise, 1 - rise_e)
    return sigma, sigma.round_shift(1) + rise


def gated(share: Tensor, gate: Row, up: Row) -> Row:
    """gate · share · up, Row-16, with the share of gate."""
    (g, g_e), (u, u_e) = narrow16(gate), narrow16(up)
    return store_row(*normalise(share.mulr15(g).mulr15(u), g_e + u_e, 16), 16)


def gated_grad(share: Tensor, slope: Tensor, dh: Row, gate: Row, up: Row) -> tuple[Row, Row]:
    """d gate = dh · up · slope and d up = dh · gate · share, Row-16 each."""
    (g, g_e), (u, u_e), (d, d_e) = narrow16(gate), narrow16(up), narrow16(dh)
    d_up = normalise(share.mulr15(g).mulr15(d), g_e + d_e, 16)
    d_gate = normalise((d * u).mulr30(slope), d_e + u_e + 1, 16)
    return store_row(*d_gate, 16), store_row(*d_up, 16)


# --------------------------------------------------------------------------------------------------
# GELU


def _octaves(x: float) -> float:
    """log2(Φ(x) / Φ(-x)) / x: Φ(x) is 1 / (1 + 2^-(that · x))."""
    if x == 0:
        return _SLOPE * _LOG2_E
    below, above = math.erfc(x / math.sqrt(2)) / 2, math.erfc(-x / math.sqrt(2)) / 2
    return (math.log2(above) - math.log2(below)) / x


OCTAVES_PAIR = table_pair(lambda f: _octaves(GELU_END * f) / 8)
"""Of |x| / 8. The values go from 2.3 to 6.3, in eighths."""


def _clamped(m: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """x in Q26, clamped to ±8, and x² in Q24."""
    x = saturating_scale(m, (0 - e) - 26)
    return x, (x << 1).mulr30(x << 1).minimum(2**30 - 1)


def _tanh_octaves(x: Tensor, square: Tensor) -> Tensor:
    """2·√(2/π)·(x + 0.044715·x³) in Q16 octaves: tanh(y) is 2·σ(2·y) - 1."""
    factor = square.mulc(q31(4 * _SLOPE * _CUBE * _LOG2_E)) + round(_SLOPE * _LOG2_E * _UNIT)
    return x.mulr30(factor).round_shift(6)


def _exact_octaves(x: Tensor) -> Tensor:
    """log2(Φ(x) / Φ(-x)) in Q16, off by 3e-5 of it."""
    per_x = lookup30_fine(x.abs().round_shift(13).minimum(65535), OCTAVES_PAIR)
    return x.mulr30(per_x).round_shift(7)


def gelu_share(m: Tensor, e: Tensor, *, tanh: bool) -> Tensor:
    """Φ(x) in Q30, exact or in the form with tanh. The relative error is 5e-5 for |x| ≤ 4."""
    x, square = _clamped(m, e)
    share, _ = _sigmoid_of(_tanh_octaves(x, square) if tanh else _exact_octaves(x))
    return share


def gelu_curve(m: Tensor, e: Tensor, *, tanh: bool) -> tuple[Tensor, Tensor]:
    """Φ(x) in Q30, as `gelu_share` gives it, and Φ(x) + x·Φ'(x) in Q29, which is below 1.2."""
    x, square = _clamped(m, e)
    if tanh:
        share, rest = _sigmoid_of(_tanh_octaves(x, square))
        inner = (square.mulc(q31(6 * _SLOPE * _CUBE)) << 1) + round(_SLOPE * _UNIT)
        # x·t' in Q22 is below 2^29, and σ·(1 - σ) in Q31 hardly above 2^29.
        rise = (share.mulr30(rest) << 1).mulr30(x.mulr30(inner)) << 6
    else:
        share, _ = _sigmoid_of(_exact_octaves(x))
        bell = exp2_negative(square.mulc(q31(_LOG2_E / 2)).round_shift(8))
        rise = bell.mulr30(x).mulc(q31(1 / math.sqrt(2 * math.pi))) << 3
    return share, share.round_shift(1) + rise
