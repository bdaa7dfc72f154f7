# SPDX-License-Identifier: Apache-2.0
"""Packing: every piece is there once, whole, in one sequence, and no loss crosses a border."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.data.packing import pack_pieces
from gsqc.data.sequences import Piece

LENGTH = 16


def piece(number: int, size: int) -> Piece:
    counted = np.ones(size, np.bool_)
    counted[0] = False
    return Piece(np.full(size, number, np.int32), counted)


@pytest.mark.parametrize("seed", range(5))
def test_every_piece_is_there_once_and_whole(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(2, LENGTH + 2, 200)
    packed = pack_pieces([piece(k, size) for k, size in enumerate(sizes)], LENGTH)
    assert all(len(p.tokens) <= LENGTH + 1 for p in packed)
    runs = [np.flatnonzero(np.diff(p.tokens)) + 1 for p in packed]
    parts = [part for p, at in zip(packed, runs, strict=True) for part in np.split(p.tokens, at)]
    assert sorted(int(part[0]) for part in parts) == list(range(200))
    assert all(len(part) == sizes[part[0]] for part in parts)
    for p, at in zip(packed, runs, strict=True):
        assert np.flatnonzero(~p.counted).tolist() == [0, *at.tolist()]
    assert len(packed) <= -(-int(sizes.sum()) // (LENGTH + 1)) * 11 // 9 + 1


def test_the_order_is_that_of_the_file() -> None:
    packed = pack_pieces([piece(0, 4), piece(1, 17), piece(2, 9), piece(3, 4)], LENGTH)
    assert [sorted(set(p.tokens.tolist())) for p in packed] == [[0, 2, 3], [1]]
    assert packed[0].tokens.tolist() == [0] * 4 + [2] * 9 + [3] * 4


def test_positions_begin_again_with_each_record() -> None:
    (packed,) = pack_pieces([piece(1, 4), piece(2, 9), piece(3, 3)], LENGTH)
    positions = packed.pad(LENGTH).positions.tolist()
    assert positions == [*range(4), *range(9), *range(3)]
    assert packed.pad(LENGTH + 3).positions.tolist() == [*positions, 3, 4, 5]
    assert piece(1, 4).pad(LENGTH).positions.tolist() == list(range(LENGTH))


def test_nothing_packs_to_nothing() -> None:
    assert pack_pieces([], LENGTH) == []
