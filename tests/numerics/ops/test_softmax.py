# SPDX-License-Identifier: Apache-2.0
"""A record's probabilities depend neither on its place in a sequence nor on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, evaluate

TOKENS, RECORDS = 40, (17, 1, 22)
PLACE = np.concatenate([np.arange(n, dtype=np.int32) for n in RECORDS])


def _softmax(m: np.ndarray, place: np.ndarray) -> Row:
    scores = Row(m.astype(np.int32), np.full((2, TOKENS, 1), -16, np.int32), 24)
    p = evaluate(OPS["softmax"], [scores, place.reshape(1, TOKENS, 1)], {"scale": 0.125})
    assert isinstance(p, Row)
    return p


@pytest.mark.parametrize("start", [0, 17, 18])
def test_a_record_is_as_if_it_were_alone(start: int) -> None:
    m = np.random.default_rng(start).integers(-(2**23) + 1, 2**23, (2, TOKENS, TOKENS))
    packed = _softmax(m, PLACE)
    # Alone, the record stands first, and has other neighbours.
    moved = np.roll(m, (-start, -start), (1, 2))
    count = RECORDS[(0, 17, 18).index(start)]
    moved[:, :, count:] = 2**23 - 1
    alone = _softmax(moved, np.arange(TOKENS, dtype=np.int32))
    rows = slice(start, start + count)
    assert (packed.m[:, rows, rows] == alone.m[:, :count, :count]).all()
    assert (packed.e[:, rows] == alone.e[:, :count]).all()
    outside = packed.m[:, rows].copy()
    outside[:, :, rows] = 0
    assert not outside.any()
