# SPDX-License-Identifier: Apache-2.0
"""TokenScores: what a model says of each token of a sequence, beyond the loss of its label.

The evaluation keeps what the head reads, a row for each token. The head of generation makes logits
of one such row. They are the logits that the evaluation's head made the loss of, bit for bit,
because the rows of the head do not know each other. So no program runs that a bundle does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.data import TokenSequence
from gsqc.errors import BundleError
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, Op
from gsqc.numerics.ops.registry import evaluate as evaluate_op
from gsqc.numerics.ops.vocabulary import LOGIT_BITS
from gsqc.runtime.executor import Executor
from gsqc.runtime.generation import token_ids
from gsqc.runtime.results import LOSS_ONE
from gsqc.runtime.sampling import Chunk, pick_token
from gsqc.runtime.token_reader import logits_of
from gsqc.values import require_whole

Int32 = npt.NDArray[np.int32]

_ERROR = 4 / LOSS_ONE
"""More than the error of a loss, in nats (`cross_entropy_loss`)."""


def head_input(layers: int) -> tuple[str, str]:
    """The names of what the head reads, a Row-24 [T, n]: the stream after the last block."""
    return f"x.{layers}.m", f"x.{layers}.e"


def copy_head_input(executor: Executor, layers: int) -> list[Any]:
    """What the head read in the evaluation that ran last: mantissas [T, n] and exponents [T, 1].

    Raises BundleError.
    """
    activations = executor.activations("evaluate")
    rows = executor.tensors["loss"].size
    try:
        return [activations[name].reshape(rows, -1).copy() for name in head_input(layers)]
    except (KeyError, ValueError):
        raise BundleError(
            "the bundle's plan does not say what its head reads", "compile the model again"
        ) from None


@dataclass(frozen=True)
class TokenScores:
    """The losses of a sequence's tokens, and the model's other opinions of them.

    sequence  what was evaluated
    losses    the loss of each label in nats, Q16, int32 [T]. Labels without a weight have one too.

    `place` is the number of a token in the sequence, 0 ≤ place < T. What is said there is of the
    token that follows. Scores hold as long as their session does, whatever it runs meanwhile.
    """

    sequence: TokenSequence
    losses: Int32
    executor: Executor
    rows: list[Any]
    layers: int

    def logits(self, place: int) -> list[Chunk]:
        """The logits of what follows the token at `place`, in chunks of the vocabulary.

        The arrays are valid until the session runs something else. Raises OptionError for a place
        that the sequence does not have.
        """
        place = require_whole("place", place, 0, len(self.losses) - 1)
        activations = self.executor.activations("decode")
        for name, values in zip(head_input(self.layers), self.rows, strict=True):
            np.copyto(activations[name], values[place], casting="no")
        self.executor.run_last("decode")
        return logits_of(self.executor.tensors)

    def likeliest(self, place: int) -> int:
        """The token that the model finds likeliest after `place`, the first of equals."""
        return pick_token(self.logits(place), Fraction(0), 0, 0)

    def is_greedy(self) -> bool:
        """Whether each label with a weight is the likeliest token at its place."""
        # A label with more than half of the probability is the likeliest. The likeliest of V tokens
        # has at least 1 / V. So most places are decided by the loss, and the worst often decides.
        vocabulary = sum(len(m) for m, _ in logits_of(self.executor.tensors))
        places = np.flatnonzero(self.sequence.weights)
        losses = self.losses[places] / LOSS_ONE
        if (losses > math.log(vocabulary) + _ERROR).any():
            return False
        open_places = places[losses > math.log(2) - _ERROR]
        worst_first = sorted(open_places, key=lambda place: -int(self.losses[place]))
        return all(self.likeliest(place) == self.sequence.labels[place] for place in worst_first)

    def losses_of(self, place: int, labels: Sequence[int]) -> Int32:
        """The losses that the token at `place` has with other labels, Q16 int32 [len(labels)].

        They are those of an evaluation with these labels, `==`. Raises OptionError, and DataError
        for labels that are no tokens.
        """
        vocabulary = sum(len(m) for m, _ in logits_of(self.executor.tensors))
        column = np.array(token_ids(labels, vocabulary, "list of labels"), np.int32).reshape(-1, 1)
        state = _run(OPS["cross_entropy_start"], [column])
        first = 0
        for mantissas, exponent in self.logits(place):
            row = np.broadcast_to(mantissas, (len(column), len(mantissas)))
            logits = Row(row, np.full_like(column, exponent), LOGIT_BITS)
            chunk = OPS["cross_entropy_chunk"]
            state = _run(chunk, [logits, column, *state], first_column=first)
            first += len(mantissas)
        losses: Int32 = _run(OPS["cross_entropy_loss"], [*state]).reshape(-1).astype(np.int32)
        return losses

    def relabelled(self, place: int, labels: Sequence[int]) -> list[TokenScores]:
        """For each of `labels`, the scores of the sequence with that label at `place`, `==`."""
        return [
            replace(self, sequence=_with_label(self.sequence, place, label), losses=losses)
            for label, losses in zip(labels, self._losses_with(place, labels), strict=True)
        ]

    def _losses_with(self, place: int, labels: Sequence[int]) -> Iterator[Int32]:
        for loss in self.losses_of(place, labels):
            losses = self.losses.copy()
            losses[place] = loss
            yield losses


def _with_label(sequence: TokenSequence, place: int, label: int) -> TokenSequence:
    labels = sequence.labels.copy()
    labels[place] = label
    return replace(sequence, labels=labels)


def _run(operation: Op, values: list[Any], **attributes: Any) -> Any:
    """The result of an op by its definition in numpy, which every target's kernels equal."""
    return evaluate_op(operation, values, attributes)
