# SPDX-License-Identifier: Apache-2.0
"""sgd: gradient descent with momentum and decoupled decay, and what all updates share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.accumulate import mean_gradient, random_limbs
from gsqc.numerics.ops.embedding import MASTER_FRACTION_BITS
from gsqc.numerics.ops.primitives import (
    Scaled,
    add_scaled,
    normalise,
    saturating_scale,
    store_row,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

BETA_ONE = 2**31
"""Decay rates of moments are integers over 2^31."""

_GUARD_BITS = 4
_STEP_FRACTION_BITS = MASTER_FRACTION_BITS + _GUARD_BITS


def decay_average(state: Row, g: Tensor, g_e: Tensor, beta: int, share: int) -> Scaled:
    """beta · state + share · g -> (m, e) of 30 bits, one exponent per row.

    Both factors are over 2^31. A share of 2^31 stands for 1.
    """
    old, old_e = widen(state)
    new = g if share == BETA_ONE else g.mulc(share)
    return normalise(*add_scaled(old.mulc(beta), old_e, new, g_e), 30)


def update_master(p: Tensor, u: Tensor, u_e: Tensor, rate: Scaled, decay: Scaled) -> Tensor:
    """p int32 Q24 [R, K] -> p - rate · u - decay · p, rounded once, half up, and |p| < 2^30.

    u_e, the exponents of |u| ≤ 2^30, broadcast against u. rate and decay are [1, 1] pairs with
    mantissas of 30 bits. Both terms carry 4 guard bits: 0.57 ulp. Each saturates at 2 in value: a
    run that gets there has diverged.
    """
    step = saturating_scale(u.mulr30(rate[0]), (0 - _STEP_FRACTION_BITS - 30) - (u_e + rate[1]))
    shrink = saturating_scale(
        p.mulr30(decay[0]), (MASTER_FRACTION_BITS - _STEP_FRACTION_BITS - 30) - decay[1]
    )
    return (p - (step + shrink).round_shift(_GUARD_BITS)).clamp(1 - 2**30, 2**30 - 1)


@op(Kind.ROW)
def sgd(
    b: Builder,
    p: Tensor,
    momentum: Row,
    high: Tensor,
    low: Tensor,
    inverse_tokens_m: Tensor,
    inverse_tokens_e: Tensor,
    learning_rate_m: Tensor,
    learning_rate_e: Tensor,
    decay_m: Tensor,
    decay_e: Tensor,
    *,
    beta: int,
) -> tuple[Tensor, Row]:
    """p int32 Q24 [R, K], momentum Row [R, K], limbs [R, K] -> p, momentum.

        g        = sum / tokens
        momentum = beta · momentum + g
        p        = p - learning_rate · momentum - decay · p

    high, low  limbs of the gradient's sum over the batch, on the grid of `accumulate`
    decay      learning rate · weight decay
    beta       over 2^31

    Scalars are mantissas of 30 bits and exponents, [1, 1] each.
    """
    g, g_e = mean_gradient(high, low, inverse_tokens_m, inverse_tokens_e)
    v, v_e = decay_average(momentum, g, g_e, beta, BETA_ONE)
    p = update_master(p, v, v_e, (learning_rate_m, learning_rate_e), (decay_m, decay_e))
    return p, store_row(*normalise(v, v_e, momentum.bits), momentum.bits)


def scalar_inputs(*pairs: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """Mantissas and exponents as int32 arrays [1, 1], for a test case."""
    return [np.array([[v]], np.int32) for pair in pairs for v in pair]


def random_master(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Test weights int32 Q24 with a row of zeros and a row of extremes."""
    p = rng.integers(-(2**24), 2**24, shape)
    p[0] = 0
    p[-1] = np.where(p[-1] < 0, 1 - 2**30, 2**30 - 1)
    return p.astype(np.int32)


TEST_SCALARS = ((2**30 - 1, -38), (549755814, -39), (549755814, -49))
"""1 / tokens, learning rate and decay of the usual test case: 1/256, 1e-3 and 1e-6."""

EXTREME_SCALARS = ((2**30 - 1, -16), (2**30 - 1, -20), (2**30 - 1, -30))


@cases(sgd)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    attributes = {"beta": int(0.9 * BETA_ONE)}
    for name, shape, bits in (
        ("rank 16", (16, 40), 30),
        ("ragged", (5, 7), 24),
        ("one", (4, 1), 30),
    ):
        values = [
            random_master(rng, shape),
            random_row(rng, shape, bits),
            *random_limbs(rng, shape),
        ]
        yield Case(name, [*values, *scalar_inputs(*TEST_SCALARS)], attributes)
    values = [
        random_master(rng, (6, 33)),
        random_row(rng, (6, 33), 30),
        *random_limbs(rng, (6, 33), 30),
    ]
    yield Case("diverged", [*values, *scalar_inputs(*EXTREME_SCALARS)], attributes)
    yield Case(
        "no decay", [*values, *scalar_inputs((2**29, -29), (2**29, -35), (0, 0))], attributes
    )
