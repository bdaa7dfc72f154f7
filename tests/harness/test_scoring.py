# SPDX-License-Identifier: Apache-2.0
"""Scores of continuations are sums of token losses. Those that share an evaluation are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.data.sequences import Piece
from gsqc.harness.scoring import Scorer
from gsqc.runtime.session import Session
from tests.runtime.small_bundle import VOCABULARY

LENGTH = 24
CONTEXT = [70, 3, 121, 9, 44]


@pytest.fixture(scope="module")
def session(bundle: Path) -> Session:
    return Session(bundle)


def by_hand(session: Session, tokens: list[int], count: int) -> float:
    """The log-likelihood of the last tokens, from token losses alone."""
    counted = np.arange(len(tokens)) >= len(tokens) - count
    losses = session.token_losses(Piece(np.array(tokens, np.int32), counted).pad(LENGTH))
    return -int(losses[len(tokens) - 1 - count : len(tokens) - 1].sum()) / 2**16


def test_a_score_is_the_sum_of_token_losses(session: Session) -> None:
    pairs = [(CONTEXT, [5, 6, 7]), (CONTEXT, [5]), ([1], [2] * LENGTH), (CONTEXT, [])]
    scorer = Scorer(session)
    scores = scorer.score(pairs)
    expected = [by_hand(session, [*c, *n], len(n)) for c, n in pairs[:3]]
    assert [value for value, _ in scores] == [*expected, 0.0]
    assert scores[3] == (0.0, True)
    assert scorer.passes == 3
    assert scorer.cuts.describe(LENGTH) is None
    result = session.evaluate([Piece(np.array([*CONTEXT, 5], np.int32), np.arange(6) > 4).pad(24)])
    assert scores[1][0] == pytest.approx(-result.loss * result.tokens, abs=0)


@pytest.mark.parametrize("before", [[], [8, 30]])
def test_choices_that_differ_in_their_last_token_share_an_evaluation(
    session: Session, before: list[int]
) -> None:
    ends = [0, 17, VOCABULARY - 1, 17]
    pairs = [(CONTEXT, [*before, end]) for end in ends]
    together, alone = Scorer(session), [Scorer(session).score([pair])[0] for pair in pairs]
    assert together.score(pairs) == alone
    assert together.passes == 1
    assert [value for value, _ in alone] == [
        by_hand(session, [*CONTEXT, *before, end], len(before) + 1) for end in ends
    ]


def test_what_differs_earlier_or_is_counted_otherwise_is_not_shared(session: Session) -> None:
    scorer = Scorer(session)
    pairs = [(CONTEXT, [1, 2]), (CONTEXT, [3, 2]), ([*CONTEXT, 1], [2])]
    assert scorer.score(pairs) == [Scorer(session).score([pair])[0] for pair in pairs]
    assert scorer.passes == 3


def test_the_likeliest_continuation_is_greedy(session: Session) -> None:
    """And it alone, among those that share its evaluation."""
    scorer = Scorer(session)
    scores = scorer.score([(CONTEXT, [token]) for token in range(VOCABULARY)])
    values = [value for value, _ in scores]
    assert scorer.passes == 1
    assert [greedy for _, greedy in scores] == [v == max(values) for v in values]


def test_a_long_context_is_cut_on_the_left_and_counted(session: Session) -> None:
    rng = np.random.default_rng(0)
    context = rng.integers(0, VOCABULARY, 40).tolist()
    scorer = Scorer(session)
    (cut,) = scorer.score([(context, [1, 2, 3])])
    assert cut == Scorer(session).score([(context[-(LENGTH + 1 - 3) :], [1, 2, 3])])[0]
    assert (scorer.cuts.texts, scorer.cuts.tokens, scorer.cuts.continuations) == (1, 18, 0)
    long = rng.integers(0, VOCABULARY, LENGTH + 5).tolist()
    (kept,) = scorer.score([([9], long)])
    assert kept[0] == by_hand(session, long[-(LENGTH + 1) :], LENGTH)
    assert scorer.cuts.describe(LENGTH) == (
        "2 texts were cut on the left to a sequence of 24 tokens (23 tokens lost); "
        "of 1 of them, not all that was to be scored is left"
    )


def test_progress_counts_every_pair(session: Session) -> None:
    told: list[Any] = []
    Scorer(session).score([(CONTEXT, [1]), (CONTEXT, [2]), (CONTEXT, [])], told.append)
    assert sum(told) == 3
