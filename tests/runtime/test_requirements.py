# SPDX-License-Identifier: Apache-2.0
"""What a session does not take: other lengths and values, and what is no sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import DataError
from gsqc.runtime.generation import token_ids
from gsqc.runtime.requirements import require_sequence
from tests.runtime.small_bundle import manifest

LENGTH, VOCABULARY = 4, 10


def sequence(value: int = 0, weight: int = WEIGHT_ONE, length: int = LENGTH) -> TokenSequence:
    tokens = np.full(length, value, np.int32)
    return TokenSequence(tokens, tokens, np.full(length, weight, np.int32))


def placed(*positions: int) -> TokenSequence:
    return replace(sequence(), positions=np.array(positions, np.int32))


def test_what_fits() -> None:
    require_sequence(sequence(VOCABULARY - 1), LENGTH, VOCABULARY)
    require_sequence(placed(0, 1, 0, 0), LENGTH, VOCABULARY)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (sequence(length=3), "has 3 tokens, and the bundle takes 4"),
        (sequence(VOCABULARY), "tokens outside"),
        (sequence(-1), "tokens outside"),
        (sequence(weight=-1), "weights outside"),
        (sequence(weight=WEIGHT_ONE + 1), "weights outside"),
        (placed(1, 2, 3, 4), "positions that do not count up"),
        (placed(0, 1, 3, 4), "positions that do not count up"),
        (placed(0, 1, 1, 2), "positions that do not count up"),
        (placed(0, -1, 0, 1), "positions that do not count up"),
        ((0, 0, 0), "a tuple is no TokenSequence"),
        (None, "a NoneType is no TokenSequence"),
    ],
)
def test_what_does_not(given: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        require_sequence(given, LENGTH, VOCABULARY)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], "empty"),
        (np.zeros(0, np.int64), "empty"),
        ([-1], "tokens outside"),
        ([10**9], "tokens outside"),
        (["a"], "no list of token ids"),
        ([0.5], "no list of token ids"),
        (np.zeros((2, 2), np.int32), "no list of token ids"),
        ([None], "no list of token ids"),
    ],
)
def test_a_prompt_of_other_values(prompt: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        token_ids(prompt, manifest().model.vocabulary)
