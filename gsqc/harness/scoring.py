# SPDX-License-Identifier: Apache-2.0
"""Scorer: log-likelihoods of continuations, by evaluations of a session.

A continuation is scored by one evaluation of context and continuation. Continuations that differ in
their last token only, such as the choices A, B, C and D, share it. Their scores are those of
separate evaluations, `==`. Others cannot share: in one sequence, texts would change each other's
rounding, for groups of 32 tokens share an exponent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsqc.data.sequences import Piece
from gsqc.runtime.results import LOSS_ONE
from gsqc.runtime.session import Session
from gsqc.runtime.token_scores import TokenScores

Tokens = Sequence[int]
Score = tuple[float, bool]
"""A log-likelihood in nats, and whether each token is the likeliest at its place."""


@dataclass
class Cuts:
    """What did not fit into a sequence.

    texts          texts that lost tokens on their left
    tokens         the tokens that they lost
    continuations  texts that lost tokens of what was to be scored
    """

    texts: int = 0
    tokens: int = 0
    continuations: int = 0

    def describe(self, length: int) -> str | None:
        """What was cut, in a sentence. None if nothing was."""
        if not self.texts:
            return None
        told = (
            f"{self.texts} texts were cut on the left to a sequence of {length} tokens "
            f"({self.tokens} tokens lost)"
        )
        if self.continuations:
            told += f"; of {self.continuations} of them, not all that was to be scored is left"
        return told


class Scorer:
    """Scores texts with a session.

    cuts    what of them was cut
    passes  how many evaluations ran
    """

    def __init__(self, session: Session) -> None:
        self.session, self.length = session, session.sequence_length
        self.cuts, self.passes = Cuts(), 0

    def score(
        self,
        pairs: Sequence[tuple[Tokens, Tokens]],
        watch: Callable[[int], object] = lambda done: None,
    ) -> list[Score]:
        """The score of each pair of a context and its continuation.

        Of a pair that is longer than a sequence, the last T + 1 tokens are read, as Hugging Face's
        class of the harness does. The context has at least one token. `watch` is called with the
        number of pairs that are new since its last call. Raises DataError and BundleError.
        """
        groups: dict[tuple[Any, int], list[int]] = defaultdict(list)
        texts = [self._cut(context, continuation) for context, continuation in pairs]
        for number, (tokens, count) in enumerate(texts):
            groups[tuple(tokens[:-1]), count].append(number)
        scores: list[Score] = [(0.0, True)] * len(pairs)  # an empty continuation is certain
        for (_, count), members in groups.items():
            if count:
                ends = [texts[number][0][-1] for number in members]
                found = self._score_ends(texts[members[0]][0], count, ends)
                for number, score in zip(members, found, strict=True):
                    scores[number] = score
            watch(len(members))
        return scores

    def _cut(self, context: Tokens, continuation: Tokens) -> tuple[list[int], int]:
        """The tokens that are read, and how many of the last of them are scored."""
        tokens, count = [*context, *continuation], len(continuation)
        lost = len(tokens) - (self.length + 1)
        if lost > 0:
            self.cuts.texts += 1
            self.cuts.tokens += lost
            self.cuts.continuations += count > self.length
        return tokens[-(self.length + 1) :], min(count, self.length)

    def _score_ends(self, tokens: list[int], count: int, ends: list[int]) -> list[Score]:
        """The scores of the last `count` tokens, with each of `ends` in place of the last one."""
        counted = np.arange(len(tokens)) >= len(tokens) - count
        sequence = Piece(np.array(tokens, np.int32), counted).pad(self.length)
        scores = self.session.score(sequence)
        self.passes += 1
        if len(set(ends)) == 1:
            return [_score(scores)] * len(ends)
        return [_score(other) for other in scores.relabelled(len(tokens) - 2, ends)]


def _score(scores: TokenScores) -> Score:
    """The sum over the tokens with a weight. It is exact up to its conversion to a float."""
    losses = scores.losses[scores.sequence.weights > 0]
    return -int(losses.astype(np.int64).sum()) / LOSS_ONE, scores.is_greedy()
