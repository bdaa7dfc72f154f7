# SPDX-License-Identifier: Apache-2.0
"""Token sequences as a session takes them, and the data set that makes batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.data.directories import Unread
from gsqc.data.form import DataForm, SharedParts
from gsqc.errors import DataError
from gsqc.numerics.random import permutation

WEIGHT_ONE = 1 << 14
"""A token weight of 1. Weights are in Q14."""

Int32 = npt.NDArray[np.int32]
ImageArrays = tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]


@dataclass(frozen=True)
class TokenSequence:
    """A padded sequence, int32 [T] each.

    tokens   what the model reads
    labels   what it is to say: the token that follows each
    weights  how much the loss of each label counts, in Q14. It is 0 for prompts and padding.
    positions  the place of each token in its record. A token sees no other record. Without them,
               the sequence is one record: 0, 1, 2, …
    image_rows  codes int16 [n, width] and exponents int8 [n] of its images. Tokens from the
               vocabulary's size on stand for them in their order. None: it has no images

    Raises DataError if they are not int32 vectors of one length. A session checks the values.
    """

    tokens: Int32
    labels: Int32
    weights: Int32
    positions: Int32 = None  # type: ignore[assignment]  # filled in below
    image_rows: ImageArrays | None = None

    def __post_init__(self) -> None:
        if self.positions is None:
            places = np.arange(getattr(self.tokens, "size", 0), dtype=np.int32)
            object.__setattr__(self, "positions", places)
        for name in ("tokens", "labels", "weights", "positions"):
            array: Any = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                kind, shape = getattr(array, "dtype", type(array).__name__), ""
                if hasattr(array, "shape"):
                    shape = f" of shape {list(array.shape)}"
                raise DataError(
                    f"the {name} of a sequence are no int32 vector but {kind}{shape}",
                    "give numpy arrays: np.asarray(values, np.int32)",
                )
        if not 0 < len(self.tokens) == len(self.labels) == len(self.weights) == len(self.positions):
            counts = f"{len(self.tokens)}, {len(self.labels)} and {len(self.weights)}"
            raise DataError(
                f"a sequence has {counts} tokens, labels and weights, "
                f"and {len(self.positions)} positions",
                "give as many of each",
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
    starts   where records begin: 0 alone, unless several are packed
    """

    tokens: Int32
    counted: npt.NDArray[np.bool_]
    starts: tuple[int, ...] = (0,)

    def pad_labelled(self, length: int) -> TokenSequence:
        """Texts with labels as a sequence of `length` tokens. Each piece's last token is a label.

        The label is to be said at the text's first token. A token of padding is a text of its own:
        its position is 0.
        """
        tokens, labels, weights, places = (np.zeros(length, np.int32) for _ in range(4))
        at, ends = 0, (*self.starts[1:], len(self.tokens))
        for start, end in zip(self.starts, ends, strict=True):
            count = end - start - 1
            tokens[at : at + count] = self.tokens[start : end - 1]
            places[at : at + count] = np.arange(count)
            labels[at], weights[at] = self.tokens[end - 1], WEIGHT_ONE
            at += count
        return TokenSequence(tokens, labels, weights, places)

    def pad(self, length: int) -> TokenSequence:
        """The piece as a sequence of `length` tokens: inputs tokens[:-1], labels tokens[1:].

        The padding is token 0.
        """
        count = len(self.tokens) - 1
        tokens, labels, weights = (np.zeros(length, np.int32) for _ in range(3))
        tokens[:count], labels[:count] = self.tokens[:-1], self.tokens[1:]
        weights[:count] = self.counted[1:] * np.int32(WEIGHT_ONE)
        places = np.arange(length, dtype=np.int32)
        for start in self.starts:
            places[start:] = np.arange(length - start, dtype=np.int32)
        return TokenSequence(tokens, labels, weights, places)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for people, of which a long list is cut."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass
class Dataset:
    """The sequences of a data set, and what did not fit.

    truncated_records  records that were cut to the length of a sequence
    truncated_tokens   tokens that were lost by it
    skipped_records    records of which nothing that counts was left
    record_lengths     the tokens of each record before it was cut
    shapes             how many records there are of each form
    shared             the system text and the tools that all chats share
    empty_records      records with nothing to learn, such as an empty completion
    first_empty        where the first of them is, and why
    unused_keys        how many records have each key that gsqc does not use
    unread             what lies below a directory and is not read
    held_out_by_name   files that are held out because their names say so
    held_out_twice     held-out sequences that are trained on too, token for token
    control_tokens     how often each control token stands in users' text
    control_records    records with any of them
    """

    sequences: Sequence[TokenSequence] = field(default_factory=list)
    truncated_records: int = 0
    truncated_tokens: int = 0
    skipped_records: int = 0
    record_lengths: list[int] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)
    shared: SharedParts = field(default_factory=SharedParts)
    empty_records: int = 0
    first_empty: str = ""
    unused_keys: dict[str, int] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    held_out_by_name: list[str] = field(default_factory=list)
    held_out_twice: int = 0
    control_tokens: dict[str, int] = field(default_factory=dict)
    control_records: int = 0

    def unread_by_kind(self) -> dict[str, tuple[int, str]]:
        """For each kind of what is not read: how many there are, and the first name."""
        found: dict[str, tuple[int, str]] = {}
        for unread in self.unread:
            count, first = found.get(unread.kind, (0, unread.name))
            found[unread.kind] = (count + 1, first)
        return found

    def form(self, prompt_end: str) -> DataForm:
        """The form of the records, in which a later prompt has to be too."""
        return DataForm(self.shapes, self.shared.system, self.shared.tools, prompt_end)

    def report(self) -> str | None:
        """What was cut or left out, for people. None if nothing was."""
        parts = []
        if self.held_out_by_name:
            names = listed(self.held_out_by_name)
            parts.append(f"{names}: held out, for the name says so")
        if self.truncated_records or self.skipped_records:
            parts.append(
                f"{self.truncated_records} records were cut to the sequence length "
                f"({self.truncated_tokens} tokens lost)"
            )
        if self.skipped_records:
            parts.append(
                f"{self.skipped_records} records whose prompt alone fills it were left out"
            )
        if self.empty_records:
            parts.append(
                f"{self.empty_records} records with nothing to learn were left out "
                f"(first {self.first_empty})"
            )
        if self.held_out_twice:
            parts.append(f"{self.held_out_twice} held-out sequences are also trained on")
        if self.unused_keys:
            parts.append(f"keys not used: {listed(list(self.unused_keys))}")
        parts += [
            f"not read: {kind} ({count}, first {name})"
            for kind, (count, name) in self.unread_by_kind().items()
        ]
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
