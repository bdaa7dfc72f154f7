# SPDX-License-Identifier: Apache-2.0
"""sgd: gradient descent with momentum and decoupled decay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.accumulate import mean_gradient, random_limbs
from gsqc.numerics.ops.primitives import normalise, store_row
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


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Gradient descent with a momentum of 0.9."""

    kind = "sgd"
    op = sgd

    @property
    def attributes(self) -> Mapping[str, int]:
        """The decay rate of the momentum, over 2^31."""
        return {"beta": BETA1}

    def state(self, shape: Shape) -> State:
        """The momentum."""
        return {"momentum": row_state(shape, MOMENT_BITS)}


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
