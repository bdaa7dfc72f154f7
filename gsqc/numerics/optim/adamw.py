# SPDX-License-Identifier: Apache-2.0
"""adamw: Adam with decoupled decay, on integers. Kingma & Ba 2015, Loshchilov & Hutter 2019.

    g      = sum / tokens
    moment = beta1 · moment + (1 - beta1) · g
    root   = √(beta2 · root² + (1 - beta2) · g²)
    p      = p - learning_rate · moment / root - decay · p

The state holds the root of the second moment, which needs half the range. The bias correction is
part of the learning rate. No epsilon is added, because the root has a floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.accumulate import mean_gradient, random_limbs
from gsqc.numerics.ops.primitives import (
    constant_like,
    normalise,
    reciprocal_root,
    saturating_scale,
    scale_by_power,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.optim.moments import (
    BETA1,
    BETA_ONE,
    EXTREME_SCALARS,
    MOMENT_BITS,
    TEST_SCALARS,
    decay_average,
    random_master,
    scalar_inputs,
    update_master,
)
from gsqc.numerics.optim.optimizer import Optimizer, Shape, State, row_state

BETA2 = 2145336164
"""0.999, the decay rate of the second moment, over 2^31."""

_BETA_BITS = 31
_POWER_BITS = 128

EPSILON_EXPONENT = -32
"""The root is at least 2^-32. Others add 1e-8 to it after its bias correction. That is a factor of
32 in the first step, and 32 · 2^-32 is 7e-9.
"""

_ROW_FLOOR = 2**4
"""The root is also at least 2^-24 of its row's largest. Beside a root of 0, rounding noise would
move a weight.
"""

_RATIO_FRACTION_BITS = 24


def _root_average(
    r: Row, g: Tensor, g_e: Tensor, beta: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """√(beta · r² + (1 - beta) · g²) as (m, e) of 30 bits, and its reciprocal.

    The reciprocal has an exponent per element. r and g come to one exponent E. Then each element is
    shifted so that the larger of the two lies in [2^29, 2^30), and squares keep their bits. One
    reciprocal root gives both results.
    """
    old, old_e = widen(r)
    e = old_e.maximum(g_e).maximum(EPSILON_EXPONENT - 28)
    floor = (constant_like(e, 1) << ((0 - e) + EPSILON_EXPONENT).clamp(0, 28)).maximum(_ROW_FLOOR)
    old = old.round_shift((e - old_e).minimum(31)).maximum(floor)
    new = g.abs().round_shift((e - g_e).minimum(31))
    up = (old | new).clz() - 2
    old, new = old << up, new << up
    v = old.mulr30(old).mulc(beta) + new.mulr30(new).mulc(
        BETA_ONE - beta
    )  # times 2^(30 + 2E - 2·up)
    y, f = reciprocal_root(v, constant_like(v, 0))
    root = normalise(scale_by_power(v.mulr30(y), up - (f + 45)), e, 30)  # √v = v · y · 2^f
    return root, (y, (f - 15) + (up - e))


@op(Kind.ROW)
def adamw(
    b: Builder,
    p: Tensor,
    moment: Row,
    root: Row,
    high: Tensor,
    low: Tensor,
    inverse_tokens_m: Tensor,
    inverse_tokens_e: Tensor,
    learning_rate_m: Tensor,
    learning_rate_e: Tensor,
    decay_m: Tensor,
    decay_e: Tensor,
    *,
    beta1: int,
    beta2: int,
) -> tuple[Tensor, Row, Row]:
    """p int32 Q24 [R, K], moment and root as Rows [R, K], limbs [R, K] -> p, moment, root.

    high, low      limbs of the gradient's sum over the batch, on the grid of `accumulate`
    learning_rate  times the bias correction √(1 - beta2^t) / (1 - beta1^t)
    decay          learning rate · weight decay
    beta1, beta2   over 2^31, in (0, 2^31)

    Scalars are mantissas of 30 bits and exponents, [1, 1] each. Moments have at least 24 bits: a
    root of 16 bits sticks. |moment / root| saturates at 32. With betas of 0.9 and 0.999 it cannot
    pass 7.3.
    """
    g, g_e = mean_gradient(high, low, inverse_tokens_m, inverse_tokens_e)
    m, m_e = decay_average(moment, g, g_e, beta1, BETA_ONE - beta1)
    (r, r_e), (y, y_e) = _root_average(root, g, g_e, beta2)
    ratio = saturating_scale(m.mulr30(y), (0 - _RATIO_FRACTION_BITS - 30) - (m_e + y_e))
    ratio_e = constant_like(ratio, -_RATIO_FRACTION_BITS)
    p = update_master(p, ratio, ratio_e, (learning_rate_m, learning_rate_e), (decay_m, decay_e))
    moments = [
        store_row(*normalise(x, e, row.bits), row.bits)
        for x, e, row in ((m, m_e, moment), (r, r_e, root))
    ]
    return p, moments[0], moments[1]


def _power(beta: int, step: int) -> int:
    """(beta / 2^31)^step in Q128, by squaring. Products are rounded down: off by at most 2^-120."""
    result, base = 1 << _POWER_BITS, beta << (_POWER_BITS - _BETA_BITS)
    while step:
        if step & 1:
            result = result * base >> _POWER_BITS
        base = base * base >> _POWER_BITS
        step >>= 1
    return result


def correction_at(step: int) -> Fraction:
    """Adam's bias correction √(1 - BETA2^step) / (1 - BETA1^step), for step ≥ 1.

    Kingma & Ba 2015, section 2, in the form that multiplies the learning rate.
    """
    assert step >= 1
    one = 1 << _POWER_BITS
    first, second = (one - _power(beta, step) for beta in (BETA1, BETA2))
    return Fraction(math.isqrt(second << _POWER_BITS), first)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW with decay rates of 0.9 and 0.999."""

    kind = "adamw"
    op = adamw

    @property
    def attributes(self) -> Mapping[str, int]:
        """The decay rates of the moments, over 2^31."""
        return {"beta1": BETA1, "beta2": BETA2}

    def state(self, shape: Shape) -> State:
        """The first moment, and the root of the second."""
        return {name: row_state(shape, MOMENT_BITS) for name in ("moment", "root")}

    def correction(self, step: int) -> Fraction:
        """Adam's bias correction, which multiplies the learning rate."""
        return correction_at(step)


def _values(
    rng: np.random.Generator, shape: tuple[int, int], bits: int, octaves: int = 24
) -> list[npt.NDArray[Any] | Row]:
    root = random_row(rng, shape, bits)
    root = Row(np.abs(root.m), root.e, bits)
    return [
        random_master(rng, shape),
        random_row(rng, shape, bits),
        root,
        *random_limbs(rng, shape, octaves),
    ]


@cases(adamw)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    attributes = {"beta1": int(0.9 * BETA_ONE), "beta2": int(0.999 * BETA_ONE)}
    scalars = scalar_inputs(*TEST_SCALARS)
    for name, shape, bits in (
        ("rank 16", (16, 40), 30),
        ("ragged", (5, 7), 24),
        ("one", (4, 1), 30),
    ):
        yield Case(name, [*_values(rng, shape, bits), *scalars], attributes)
    yield Case(
        "diverged", [*_values(rng, (6, 33), 30, 30), *scalar_inputs(*EXTREME_SCALARS)], attributes
    )
    yield Case(
        "small betas", [*_values(rng, (6, 33), 30), *scalars], {"beta1": 2**10, "beta2": 2**10}
    )
    empty = Row(np.zeros((4, 20), np.int32), np.full((4, 1), -120, np.int32), 30)
    start = [random_master(rng, (4, 20)), empty, empty]
    yield Case("first step", [*start, *random_limbs(rng, (4, 20)), *scalars], attributes)
    zeros = np.zeros((4, 20), np.int32)
    yield Case("no gradient", [*start, zeros, zeros, *scalars], attributes)
