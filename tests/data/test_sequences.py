# SPDX-License-Identifier: Apache-2.0
"""A sequence is three int32 vectors of one length. Others are named where they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gsqc.data import TokenSequence
from gsqc.errors import DataError

GOOD = np.zeros(4, np.int32)


def test_three_vectors() -> None:
    assert TokenSequence(GOOD, GOOD, GOOD + 1).weighted_tokens == 4
    assert TokenSequence(GOOD, GOOD, GOOD).positions.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (GOOD.astype(np.int64), r"int64 of shape \[4\]"),
        (GOOD.astype(np.float32), r"float32 of"),
        (GOOD.astype(object), r"object of"),
        (GOOD.reshape(2, 2), r"int32 of shape \[2, 2\]"),
        (GOOD[0], r"int32 of shape \[\]"),
        ([0, 0, 0, 0], r"list$"),
        ([[0], [0, 0]], r"list$"),
        ("abcd", r"str$"),
        (None, r"NoneType$"),
    ],
)
def test_what_is_no_vector_of_int32(array: Any, kind: str) -> None:
    for position, name in enumerate(("tokens", "labels", "weights")):
        parts = [GOOD, GOOD, GOOD]
        parts[position] = array
        with pytest.raises(DataError, match=f"(?m)the {name} of a sequence are no int32 .* {kind}"):
            TokenSequence(*parts)


@pytest.mark.parametrize("parts", [(GOOD, GOOD[1:], GOOD), (GOOD[:0],) * 3])
def test_the_lengths_are_one(parts: tuple[Any, Any, Any]) -> None:
    with pytest.raises(DataError, match="tokens, labels and weights"):
        TokenSequence(*parts)
