# SPDX-License-Identifier: Apache-2.0
"""Token sequences as a session takes them, and the data set that makes batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from gsqc.data.form import DataForm, SharedParts
from gsqc.errors import DataError
from gsqc.numerics.random import permutation

WEIGHT_ONE = 1 << 14
"""A token weight of 1. Weights are in Q14."""

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TokenSequence:
    """A padded sequence, int32 [T] each.

    tokens   what the model reads
    labels   what it is to say: the token that follows each
    weights  how much the loss of each label counts, in Q14. It is 0 for prompts and padding.

    Raises DataError if they are not three int32 vectors of one length. A session checks the values.
    """

    tokens: Int32
    labels: Int32
    weights: Int32

    def __post_init__(self) -> None:
        for name in ("tokens", "labels", "weights"):
            array: Any = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                kind, shape = getattr(array, "dtype", type(array).__name__), ""
                if hasattr(array, "shape"):
                    shape = f" of shape {list(array.shape)}"
                raise DataError(
                    f"the {name} of a sequence are no int32 vector but {kind}{shape}",
                    "give numpy arrays: np.asarray(values, np.int32)",
                )
        if not 0 < len(self.tokens) == len(self.labels) == len(self.weights):
            counts = f"{len(self.tokens)}, {len(self.labels)} and {len(self.weights)}"
            raise DataError(
                f"a sequence has {counts} tokens, labels and weights", "give as many of each"
            )

    @property
    def weighted_tokens(self) -> int:
        """How many tokens have a weight above 0."""
        return int((self.weights > 0).sum())


@dataclass(frozen=True)
class Piece:
    """Tokens of a record that fit into a sequence of T tokens.

    tokens   int32 [n], 2 ≤ n ≤ T + 1
    counted  bool [n]: which tokens have a loss. The first never has: nothing stands before it.
    """

    tokens: Int32
    counted: npt.NDArray[np.bool_]

    def pad(self, length: int) -> TokenSequence:
        """The piece as a sequence of `length` tokens: inputs tokens[:-1], labels tokens[1:].

        The padding is token 0.
        """
        count = len(self.tokens) - 1
        arrays = [np.zeros(length, np.int32) for _ in range(3)]
        arrays[0][:count], arrays[1][:count] = self.tokens[:-1], self.tokens[1:]
        arrays[2][:count] = self.counted[1:] * np.int32(WEIGHT_ONE)
        return TokenSequence(*arrays)


class PaddedSequences(Sequence[TokenSequence]):
    """Pieces as sequences of `length` tokens.

    They are padded when they are asked for, so the padding takes no memory.
    """

    def __init__(self, pieces: Sequence[Piece], length: int) -> None:
        self.pieces, self.length = pieces, length

    def __len__(self) -> int:
        return len(self.pieces)

    @overload
    def __getitem__(self, index: int) -> TokenSequence: ...

    @overload
    def __getitem__(self, index: slice) -> PaddedSequences: ...

    def __getitem__(self, index: int | slice) -> TokenSequence | PaddedSequences:
        if isinstance(index, slice):
            return PaddedSequences(self.pieces[index], self.length)
        return self.pieces[index].pad(self.length)


@dataclass
class Dataset:
    """The sequences of a data set, and what did not fit.

    truncated_records  records that were cut to the length of a sequence
    truncated_tokens   tokens that were lost by it
    skipped_records    records of which nothing that counts was left
    record_lengths     the tokens of each record before it was cut
    shapes             how many records there are of each form
    shared             the system text and the tools that all chats share
    left_out           links and special files below a directory, which are not read
    """

    sequences: Sequence[TokenSequence] = field(default_factory=list)
    truncated_records: int = 0
    truncated_tokens: int = 0
    skipped_records: int = 0
    record_lengths: list[int] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)
    shared: SharedParts = field(default_factory=SharedParts)
    left_out: list[Path] = field(default_factory=list)

    def form(self, prompt_end: str) -> DataForm:
        """The form of the records, in which a later prompt has to be too."""
        return DataForm(self.shapes, self.shared.system, self.shared.tools, prompt_end)

    def report(self) -> str | None:
        """What was cut or left out, for people. None if nothing was."""
        parts = []
        if self.truncated_records or self.skipped_records:
            parts.append(
                f"{self.truncated_records} records were cut to the sequence length "
                f"({self.truncated_tokens} tokens lost)"
            )
        if self.skipped_records:
            parts.append(
                f"{self.skipped_records} records whose prompt alone fills it were left out"
            )
        if self.left_out:
            parts.append(
                f"{len(self.left_out)} links and special files were not read "
                f"(first {self.left_out[0]})"
            )
        return "; ".join(parts) or None

    def order(self, batch: int, seed: int, start: int = 0) -> Iterator[list[int]]:
        """The numbers of the sequences of each batch, without end, from batch number `start` on.

        Each epoch has a random order of its own, which depends on the seed alone.
        """
        position, count = start * batch, len(self.sequences)
        orders: dict[int, list[int]] = {}
        while True:
            chosen = []
            for k in range(position, position + batch):
                epoch = k // count
                if epoch not in orders:
                    orders = {
                        epoch: permutation(count, seed, epoch),
                        **{e: orders[e] for e in orders if e == epoch - 1},
                    }
                chosen.append(orders[epoch][k % count])
            position += batch
            yield chosen

    def batches(self, batch: int, seed: int, start: int = 0) -> Iterator[list[TokenSequence]]:
        """The sequences of each batch, in that order."""
        for chosen in self.order(batch, seed, start):
            yield [self.sequences[k] for k in chosen]
