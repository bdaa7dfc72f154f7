# SPDX-License-Identifier: Apache-2.0
"""What a step and an evaluation give. Losses are exact integers until they become a number for
people here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gsqc.data import WEIGHT_ONE

LOSS_ONE = 1 << 16
"""Losses are in Q16 nats."""


@dataclass(frozen=True)
class StepResult:
    """One optimizer step: mean loss in nats over `tokens` weighted tokens, and the digest of the
    state after it.

    `gradient_norm` is the norm of the mean gradient before clipping, in steps that clip.
    """

    step: int
    loss: float
    tokens: int
    digest: str
    gradient_norm: float | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """Mean loss in nats over `tokens` weighted tokens."""

    loss: float
    perplexity: float
    tokens: int


def mean_loss(loss: int, weight: int) -> float:
    """Loss in Q16·Q14 over weight in Q14, for people to read: the state never sees it."""
    return float(Fraction(loss, weight * LOSS_ONE))


def mean_norm(mantissa: int, exponent: int, weight: int) -> float:
    """The norm of the mean gradient, from the sum's square and the weight in Q14; for people to
    read.
    """
    return math.sqrt(math.ldexp(mantissa, exponent)) * WEIGHT_ONE / weight
