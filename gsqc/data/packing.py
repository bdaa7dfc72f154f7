# SPDX-License-Identifier: Apache-2.0
"""pack_pieces: several short pieces become one sequence, so that less of a step is padding.

before:  [a a a e · · · ·] [b b e · · · · ·] [c c c c c e · ·]
after:   [a a a e b b e ·] [c c c c c e · ·]

Pieces are never cut for it. The first token of a piece that follows another has no loss, because
nothing could predict it. Positions begin again with each piece, and a token sees no other piece
(docs/data.md).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from gsqc.data.sequences import Piece


def pack_pieces(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """Pieces joined into fewer of at most `length` + 1 tokens, in the order of their first ones.

    The longest piece comes first, and goes where it leaves the least room. Pieces of equal length
    keep the order of the file. This is best fit decreasing (Johnson et al. 1974). It takes at most
    11/9 of the least number of sequences, plus a few.
    """
    rooms: list[tuple[int, int]] = []  # (tokens that still fit, sequence), sorted
    chosen: list[list[int]] = []
    for number in sorted(range(len(pieces)), key=lambda k: (-len(pieces[k].tokens), k)):
        size = len(pieces[number].tokens)
        at = bisect_left(rooms, (size, 0))
        if at < len(rooms):
            room, sequence = rooms.pop(at)
        else:
            room, sequence = length + 1, len(chosen)
            chosen.append([])
        chosen[sequence].append(number)
        insort(rooms, (room - size, sequence))
    return [_join([pieces[k] for k in sorted(members)]) for members in sorted(map(sorted, chosen))]


def _join(pieces: list[Piece]) -> Piece:
    """All pieces as one. The first token of each has no loss, so no loss crosses a border."""
    if len(pieces) == 1:
        return pieces[0]
    ends = accumulate((len(piece.tokens) for piece in pieces), initial=0)
    return Piece(
        np.concatenate([p.tokens for p in pieces]),
        np.concatenate([p.counted for p in pieces]),
        tuple(ends)[:-1],
    )
