# SPDX-License-Identifier: Apache-2.0
"""The results of a step and of an evaluation.

Losses are exact integers up to here, where they become numbers for people to read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gsqc.data import WEIGHT_ONE
from gsqc.errors import BundleError, DataError

LOSS_ONE = 1 << 16
"""Losses are in Q16 nats."""
_LARGEST_LOSS = 700.0


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step gives.

    loss           mean loss in nats over `tokens` weighted tokens
    digest         the digest of the state after the step
    gradient_norm  norm of the mean gradient before clipping, in steps that clip
    differences    of the losses on both sides of the weights, for each query of a step without
                   gradients: weighted sums in Q16 · Q14
    weight         the sum of the tokens' weights, in Q14
    """

    step: int
    loss: float
    tokens: int
    digest: str
    gradient_norm: float | None = None
    differences: tuple[int, ...] = ()
    weight: int = 0

    def logged(self) -> dict[str, Any]:
        """What a line of a run's log holds of it, beside what every line does."""
        found: dict[str, Any] = {}
        if self.gradient_norm is not None:
            found["gradient_norm"] = self.gradient_norm
        if self.differences:
            found |= {"weight": self.weight, "differences": list(self.differences)}
        return found


@dataclass(frozen=True)
class EvaluationResult:
    """Mean loss in nats over `tokens` weighted tokens.

    notes          what of the data was cut or left out
    bits_per_byte  the loss of a text, in bits, over its bytes in UTF-8. None for records
    accuracy       of a classifier: the share of the texts that get their label
    """

    loss: float
    perplexity: float
    tokens: int
    notes: tuple[str, ...] = ()
    bits_per_byte: float | None = None
    accuracy: float | None = None

    def logged(self) -> dict[str, Any]:
        """What a line of a run's log holds of it."""
        found = {"loss": self.loss, "tokens": self.tokens, "accuracy": self.accuracy}
        return {f"validation_{name}": v for name, v in found.items() if v is not None}


def mean_loss(loss: int, weight: int) -> float:
    """A loss in Q16·Q14 over a weight in Q14. It is for people to read: no state depends on it."""
    return float(Fraction(loss, weight * LOSS_ONE))


def evaluation_result(loss: int, weight: int, right: int | None = None) -> EvaluationResult:
    """The result of sequences with that weighted loss (Q16·Q14) and weight (Q14). Raises DataError
    if no token has a weight.

    right  the weight of the texts that a classifier is right about
    """
    if weight == 0:
        raise DataError(
            "the data has no token with a loss",
            "give records a completion that fits the sequence length",
        )
    mean = mean_loss(loss, weight)
    accuracy = None if right is None else right / weight
    tokens = round(weight / WEIGHT_ONE)
    return EvaluationResult(mean, perplexity(mean), tokens, accuracy=accuracy)


def bits_per_byte(result: EvaluationResult, text_bytes: int) -> float:
    """The bits that a text's tokens cost together, over the text's bytes."""
    return result.loss * result.tokens / math.log(2) / text_bytes


def mean_norm(mantissa: int, exponent: int, weight: int) -> float:
    """The norm of the mean gradient, from the square of the summed gradient's norm,
    mantissa · 2^exponent, and the weight in Q14. It is for people to read. Raises BundleError if it
    is no number.
    """
    try:
        return math.sqrt(math.ldexp(mantissa, exponent)) * WEIGHT_ONE / weight
    except (ValueError, OverflowError):
        raise BundleError(
            f"the norm of the gradient is √({mantissa} · 2^{exponent}), which is no number",
            "compile the model again",
        ) from None


def perplexity(loss: float) -> float:
    """e^loss, for people to read. A loss above 700 nats counts as 700, or it would be no number."""
    return math.exp(min(loss, _LARGEST_LOSS))
