# SPDX-License-Identifier: Apache-2.0
"""What a session says of each token is what its evaluations say, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import BundleError, DataError, OptionError
from gsqc.runtime.results import mean_loss
from gsqc.runtime.session import Session
from gsqc.runtime.token_scores import copy_head_input
from tests.runtime.small_bundle import VOCABULARY

LENGTH = 24
EVERY_TOKEN = np.arange(VOCABULARY, dtype=np.int32)


def sequence(seed: int, weighted: int = LENGTH) -> TokenSequence:
    """Random tokens. The last `weighted` have weights, which differ."""
    rng = np.random.default_rng(seed)
    tokens, labels = rng.integers(0, VOCABULARY, (2, LENGTH)).astype(np.int32)
    weights = rng.integers(1, WEIGHT_ONE + 1, LENGTH).astype(np.int32)
    weights[: LENGTH - weighted] = 0
    return TokenSequence(tokens, labels, weights)


@pytest.fixture(scope="module", params=["native", "numpy"])
def session(bundle: Path, request: pytest.FixtureRequest) -> Session:
    """A session whose adapter is not the initial one."""
    opened = Session(bundle, target=request.param)
    for seed in range(3):
        opened.step([sequence(seed)], Fraction(1, 50))
    return opened


def other(given: TokenSequence, place: int, label: int) -> TokenSequence:
    """The sequence with another label at a place."""
    labels = given.labels.copy()
    labels[place] = label
    return TokenSequence(given.tokens, labels, given.weights)


@pytest.mark.parametrize("weighted", [LENGTH, 5, 1])
def test_the_weighted_sum_is_the_loss_of_an_evaluation(session: Session, weighted: int) -> None:
    given = sequence(7, weighted)
    losses = session.token_losses(given)
    assert (losses.dtype, losses.shape) == (np.int32, (LENGTH,))
    weights = given.weights.astype(np.int64)
    expected = mean_loss(int((losses * weights).sum()), int(weights.sum()))
    assert session.evaluate([given]).loss == expected
    assert (losses > 0).all()


def test_losses_of_other_labels_are_those_of_evaluations_with_them(session: Session) -> None:
    given = sequence(7)
    scores = session.score(given)
    assert (scores.losses == session.token_losses(given)).all()
    labels = [0, 17, VOCABULARY - 1]
    for place in (0, 11, LENGTH - 1):
        expected = [session.token_losses(other(given, place, n))[place] for n in labels]
        assert scores.losses_of(place, labels).tolist() == expected
    own = [int(scores.losses_of(k, [int(given.labels[k])])[0]) for k in range(LENGTH)]
    assert own == scores.losses.tolist()


def test_the_likeliest_token_has_the_smallest_loss(session: Session) -> None:
    scores = session.score(sequence(7))
    for place in (0, 5, LENGTH - 1):
        losses = scores.losses_of(place, EVERY_TOKEN.tolist())
        assert losses[scores.likeliest(place)] == losses.min()
        probabilities = np.exp(-losses / 2**16)
        assert abs(probabilities.sum() - 1) < 1e-3  # losses are rounded to 2^-16


def test_a_text_is_greedy_if_every_label_with_a_weight_is_the_likeliest(session: Session) -> None:
    given = sequence(7, weighted=3)
    scores = session.score(given)
    for place in range(LENGTH - 3, LENGTH):
        given = other(given, place, scores.likeliest(place))
    assert not scores.is_greedy()
    assert session.score(given).is_greedy()
    for place in range(LENGTH - 3, LENGTH):
        losses = scores.losses_of(place, EVERY_TOKEN.tolist())
        second = int(np.argsort(losses, kind="stable")[1])
        assert not session.score(other(given, place, second)).is_greedy()
    assert session.score(other(given, 2, 9)).is_greedy()  # a label without a weight


def test_two_labels_that_are_equally_likely(bundle: Path) -> None:
    """Each has nearly half of the probability, and only the likelier one is greedy."""
    session, first = Session(bundle), sequence(1)
    second = TokenSequence(first.tokens, sequence(2).labels, first.weights)
    for _ in range(60):
        session.step([first, second], Fraction(1, 50))
    near_half = 0
    for given in (first, second):
        scores = session.score(given)
        for place in range(LENGTH):
            only = TokenSequence(given.tokens, given.labels, np.zeros(LENGTH, np.int32))
            only.weights[place] = WEIGHT_ONE
            is_likeliest = scores.likeliest(place) == given.labels[place]
            assert session.score(only).is_greedy() == is_likeliest
            near_half += not is_likeliest and scores.losses[place] < 2 * 2**16
    assert near_half > 0


def test_scores_hold_whatever_the_session_runs_meanwhile(session: Session) -> None:
    given = sequence(8)
    scores = session.score(given)
    expected = scores.losses_of(4, [1, 2, 3]).tolist()
    session.evaluate([sequence(9)])
    generated = list(session.generate([1, 2, 3], 6))
    assert scores.losses_of(4, [1, 2, 3]).tolist() == expected
    assert list(session.generate([1, 2, 3], 6)) == generated
    before = session.digest()
    session.score(given)
    assert session.digest() == before


def test_what_is_no_sequence_of_the_bundle_is_refused(session: Session) -> None:
    short = np.zeros(LENGTH - 1, np.int32)
    for method in (session.token_losses, session.score):
        with pytest.raises(DataError, match="23 tokens"):
            method(TokenSequence(short, short, short))


def test_what_is_no_place_and_no_label_is_refused(session: Session) -> None:
    scores = session.score(sequence(7))
    for place in (-1, LENGTH, 1.5, None):
        with pytest.raises(OptionError, match="place"):
            scores.likeliest(place)  # type: ignore[arg-type]
    for labels in ([], [-1], [VOCABULARY], [0.5], 3):
        with pytest.raises(DataError, match=r"labels|tokens outside"):
            scores.losses_of(0, labels)  # type: ignore[arg-type]


def test_a_plan_without_the_input_of_the_head_is_refused() -> None:
    tensors = {"loss": np.zeros(4, np.int32)}
    without: Any = SimpleNamespace(activations=lambda name: {}, tensors=tensors)
    with pytest.raises(BundleError, match="what its head reads"):
        copy_head_input(without, 2)
