# SPDX-License-Identifier: Apache-2.0
"""Many pieces in three arrays: without them, a Python object for each would take most memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from gsqc.data.sequences import Int32, Piece

Int64 = npt.NDArray[np.int64]


class PieceStore(Sequence[Piece]):
    """Pieces behind each other.

    tokens   int32 [n], of all pieces
    counted  bool [n]: which of them have a loss
    ends     int64 [pieces]: where each piece ends
    """

    def __init__(self) -> None:
        self._tokens, self._ends = array("i"), array("q")
        self._counted = bytearray()

    @classmethod
    def of(cls, tokens: Int32, counted: npt.NDArray[np.bool_], ends: Int64) -> PieceStore:
        """A store of these arrays, which must fit each other."""
        store = cls()
        store._tokens.frombytes(tokens.astype(np.int32).tobytes())
        store._ends.frombytes(ends.astype(np.int64).tobytes())
        store._counted += counted.astype(np.bool_).tobytes()
        return store

    def add(self, tokens: bytes, counted: bytes) -> None:
        """Put a piece behind the others: int32 tokens, and a byte for each, 1 if it has a loss."""
        self._tokens.frombytes(tokens)
        self._counted += counted
        self._ends.append(len(self._tokens))

    def extend(self, others: PieceStore) -> None:
        """Put all pieces of another store behind the others."""
        before = len(self._tokens)
        self._tokens += others._tokens
        self._counted += others._counted
        self._ends.frombytes((others.ends + before).tobytes())

    def pick(self, numbers: Iterable[int]) -> PieceStore:
        """Some of the pieces, in the order of the numbers."""
        chosen = PieceStore()
        for number in numbers:
            piece = self[number]
            chosen.add(piece.tokens.tobytes(), piece.counted.tobytes())
        return chosen

    @property
    def tokens(self) -> Int32:
        """The tokens of all pieces. Nothing may be added while they are in use."""
        return np.frombuffer(self._tokens, np.int32)

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Which of the tokens have a loss. As `tokens`."""
        return np.frombuffer(self._counted, np.bool_)

    @property
    def ends(self) -> Int64:
        """Where each piece ends. As `tokens`."""
        return np.frombuffer(self._ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Piece: ...

    @overload
    def __getitem__(self, index: slice) -> PieceStore: ...

    def __getitem__(self, index: int | slice) -> Piece | PieceStore:
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        end = self._ends[index]
        number = index % len(self)
        part = slice(self._ends[number - 1] if number else 0, end)
        return Piece(self.tokens[part], self.counted[part])


def in_both(train: Sequence[Piece], held_out: Sequence[Piece]) -> int:
    """How many of the held-out pieces are trained on too, token for token."""
    wanted = {piece.tokens.tobytes() for piece in held_out}
    found = {key for piece in train if (key := piece.tokens.tobytes()) in wanted}
    return sum(piece.tokens.tobytes() in found for piece in held_out)
