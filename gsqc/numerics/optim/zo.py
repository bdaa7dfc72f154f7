# SPDX-License-Identifier: Apache-2.0
"""zo: zeroth-order descent by forward passes alone, P-RGE of MobiZO (Gao et al. 2024, arXiv
2409.15520, "Enabling Efficient LLM Fine-Tuning at the Edge via Inference Engines").

    g_q = (L(p + ε·z_q) - L(p - ε·z_q)) / 2ε        for each query q of a step
    p   = p - learning_rate · mean over q of g_q·z_q - decay · p

z is noise of ±1 from the matrix's key, the step, the query and the element's place. No number is
rounded when p moves by ±ε, so p comes back to the bit. g is an integer difference of losses, and a
weight is rounded once a step. So the steps and their g are enough to make p again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from gsqc.numerics.formats import Spec, Value
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.embedding import MASTER_FRACTION_BITS
from gsqc.numerics.ops.noise import join31, noise, scattered, stream_key
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.optim.moments import (
    STEP_FRACTION_BITS,
    TEST_SCALARS,
    move_master,
    random_master,
    scalar_inputs,
)
from gsqc.numerics.optim.optimizer import SCALAR, STEP_NUMBER, Optimizer, Shape, State
from gsqc.numerics.optim.schedule_inputs import scalar_inputs as integer_inputs
from gsqc.option import option

NOISE = STEP, QUERY, TIMES = (STEP_NUMBER, "noise_query", "noise_times")
MOVES = "noise_moves"
DECAY = ("decay_m", "decay_e")
"""The integer inputs of the two ops."""

MOST_QUERIES = 16
EPSILON_BITS = (4, 20)
LARGEST_STEP = 2**31 - 1
"""The noise knows the lowest 31 bits of a step. A run has no more, but a stranger's state may."""
LARGEST_MOVE = 2**29
"""What the moves of a step's queries may add up to: a weight moves by 2 at most."""
_LOSS_FRACTION_BITS = 16


def _signs(b: Builder, shape: tuple[int, ...], key: Tensor, step: Tensor, query: Tensor) -> Tensor:
    """±1 for each element of a matrix [R, K]. key, step and query are [1, 1]."""
    rows, columns = shape
    place = b.iota((rows, 1), 0) * columns + b.iota((1, columns), 1)
    key = join31(noise(b, join31(noise(b, key, step)), query))
    return 1 - ((noise(b, key, scattered(b, place))[1] & 1) << 1)


@op(Kind.ROW)
def perturb(
    b: Builder,
    p: Tensor,
    key: Tensor,
    noise_step: Tensor,
    noise_query: Tensor,
    noise_times: Tensor,
    *,
    epsilon_bits: int,
) -> Tensor:
    """p int32 Q24 [R, K] -> p + times · 2^-epsilon_bits · z, exact.

    key    [1, 1], below 2^31: the matrix's own
    times  [1, 1]: 1 or -2. It does not saturate, for |p| < 2^30 and ε ≤ 1/16 leave room.
    """
    z = _signs(b, p.shape, key, noise_step, noise_query)
    return p + ((z * noise_times) << (MASTER_FRACTION_BITS - epsilon_bits))


@op(Kind.ROW)
def zo(
    b: Builder,
    p: Tensor,
    key: Tensor,
    noise_step: Tensor,
    noise_moves: Tensor,
    decay_m: Tensor,
    decay_e: Tensor,
) -> Tensor:
    """p int32 Q24 [R, K] -> p - Σ_q moves_q · z_q - decay · p, rounded once, half up.

    moves  [1, queries], with 28 fraction bits; their sizes sum up to 2^29 at most
    decay  learning rate · weight decay: a mantissa of 30 bits and an exponent, [1, 1] each
    """
    step = b.const(0, 2)
    for query in range(noise_moves.shape[1]):
        move = noise_moves.slice((0, query), (1, 1))
        step = step + _signs(b, p.shape, key, noise_step, b.const(query, 2)) * move
    return move_master(p, step, (decay_m, decay_e))


@dataclass(frozen=True)
class Zo(Optimizer):
    """The settings of zeroth-order descent."""

    kind = "zo"
    op = zo
    schedules = ("perturb", "update")
    differentiates = False

    queries: int = option(
        4, help="Directions of a step.", flag="queries", minimum=1, maximum=MOST_QUERIES
    )
    epsilon_bits: int = option(
        8,
        help="N, if a weight is moved by 2^-N.",
        flag="epsilon_bits",
        minimum=EPSILON_BITS[0],
        maximum=EPSILON_BITS[1],
    )

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """The step, the moves and the decay."""
        moves = {MOVES: Spec((1, self.queries), "int32")}
        return {STEP: SCALAR, **moves, **dict.fromkeys(DECAY, SCALAR)}

    @property
    def all_inputs(self) -> Mapping[str, Spec]:
        """Those of both ops."""
        return {**self.inputs, QUERY: SCALAR, TIMES: SCALAR}

    @property
    def attributes(self) -> Mapping[str, int]:
        """The op has none."""
        return {}

    def state(self, shape: Shape) -> State:
        """The matrix's key. It never changes."""
        return {"key": SCALAR}

    def start(self, shape: Shape, seed: int, stream: int) -> State:
        """The key that the matrix's noise begins with."""
        return {"key": np.array([[stream_key(seed, stream)]], np.int32)}

    def step_inputs(
        self,
        learning_rate: Fraction,
        weight_decay: Fraction,
        step: int,
        weight_sum: int,
        clip: Fraction | None = None,
    ) -> dict[str, int]:
        """As of all optimizers, but the learning rate is a factor: what a query moves the weights
        by, with 28 fraction bits, for a difference of the losses of 1 (Q16·Q14).
        """
        fraction_bits = STEP_FRACTION_BITS - _LOSS_FRACTION_BITS + self.epsilon_bits - 1
        factor = learning_rate * (1 << fraction_bits) / (weight_sum * self.queries)
        return integer_inputs(factor, learning_rate * weight_decay, weight_sum, clip)

    def moves(self, inputs: Mapping[str, int], differences: Sequence[int]) -> list[int]:
        """What the weights move by for each query, with 28 fraction bits, rounded half up.

        inputs       of the step, by `step_inputs`
        differences  of the losses at p + ε·z and p - ε·z, summed by the tokens' weights (Q16·Q14)
        """
        limit = LARGEST_MOVE // self.queries
        m, e = inputs["learning_rate_m"], inputs["learning_rate_e"]
        return [max(-limit, min(_scaled(d * m, e), limit)) for d in differences]


def _scaled(value: int, exponent: int) -> int:
    """value · 2^exponent, rounded half up."""
    if exponent >= 0:
        return value << exponent
    return ((value >> (-exponent - 1)) + 1) >> 1


def _key(rng: np.random.Generator) -> Any:
    return np.array([[rng.integers(0, 2**31)]], np.int32)


@cases(perturb)
def _perturb_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, step, query, times in (
        ("plus", (16, 40), 1, 0, 1),
        ("minus two, ragged", (5, 7), 2**31 - 1, 15, -2),
        ("one", (1, 1), 0, 3, 1),
    ):
        numbers = [np.array([[v]], np.int32) for v in (step, query, times)]
        values: list[Value] = [random_master(rng, shape), _key(rng), *numbers]
        yield Case(name, values, {"epsilon_bits": 4 if times == 1 else 10})


@cases(zo)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, queries in (("four queries", (16, 40), 4), ("ragged", (5, 7), 1)):
        limit = LARGEST_MOVE // queries
        moves = rng.integers(-(2**20), 2**20, (1, queries)).astype(np.int32)
        moves[0, 0] = limit if queries == 1 else -limit
        step = np.array([[rng.integers(0, 2**31)]], np.int32)
        values: list[Value] = [random_master(rng, shape), _key(rng), step, moves]
        yield Case(name, [*values, *scalar_inputs(TEST_SCALARS[2])])
    still = [np.zeros((1, 2), np.int32), *scalar_inputs((0, 0))]
    yield Case("no move", [random_master(rng, (4, 33)), _key(rng), _key(rng), *still])
