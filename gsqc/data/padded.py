# SPDX-License-Identifier: Apache-2.0
"""Pieces as sequences, which are padded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from gsqc.data.sequences import Piece, TokenSequence


class PaddedSequences(Sequence[TokenSequence]):
    """Pieces as sequences of `length` tokens.

    They are padded when they are asked for, so the padding takes no memory. `labelled` pieces are
    texts with labels. `finish` is what is done to each sequence at last.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        length: int,
        *,
        labelled: bool = False,
        finish: Callable[[TokenSequence], TokenSequence] | None = None,
    ) -> None:
        self.pieces, self.length, self.labelled = pieces, length, labelled
        self._finish = finish

    def __len__(self) -> int:
        return len(self.pieces)

    @overload
    def __getitem__(self, index: int) -> TokenSequence: ...

    @overload
    def __getitem__(self, index: slice) -> PaddedSequences: ...

    def __getitem__(self, index: int | slice) -> TokenSequence | PaddedSequences:
        if isinstance(index, slice):
            pieces, finish = self.pieces[index], self._finish
            return PaddedSequences(pieces, self.length, labelled=self.labelled, finish=finish)
        piece = self.pieces[index]
        made = piece.pad_labelled(self.length) if self.labelled else piece.pad(self.length)
        return made if self._finish is None else self._finish(made)
