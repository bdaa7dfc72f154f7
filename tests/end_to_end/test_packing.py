# SPDX-License-Identifier: Apache-2.0
"""A packed record has the loss that it has alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from gsqc.data import TokenSequence
from gsqc.data.packing import pack_pieces
from gsqc.data.sequences import Piece
from gsqc.runtime.session import Session

SIZES, STEPS = (8, 7, 9), 40


def _pieces() -> list[Piece]:
    rng = np.random.default_rng(0)
    counted = [np.arange(n) > 0 for n in SIZES]
    return [Piece(rng.integers(0, 256, len(c)).astype(np.int32), c) for c in counted]


def _losses(session: Session, sequence: TokenSequence, start: int, count: int) -> float:
    """The mean loss of the tokens of a record that begins at `start`."""
    session.evaluate([sequence])
    losses = session.executor.tensors["loss"][start : start + count - 1]
    return float(losses.mean()) / 2**16


def test_a_packed_record_has_its_loss_alone(bundle: Path) -> None:
    """Up to 1 %. Tokens of a group of 32 share an exponent, so neighbours change how values are
    rounded to 8 bits. The largest difference of this test is 0.2 %.

    The same sequence without its positions is what gsqc trained on once: there the second record's
    loss is more than twice as large after training on packed records.
    """
    session, length = Session(bundle), 24
    (piece,) = pack_pieces(_pieces(), length)
    packed = piece.pad(length)
    for _ in range(STEPS):
        session.step([packed], Fraction(1, 50))
    mixed = TokenSequence(packed.tokens, packed.labels, packed.weights)
    for record, start in zip(_pieces(), piece.starts, strict=True):
        count = len(record.tokens)
        alone = _losses(session, record.pad(length), 0, count)
        assert abs(_losses(session, packed, start, count) / alone - 1) < 0.01
        if start:
            assert _losses(session, mixed, start, count) > 2 * alone
