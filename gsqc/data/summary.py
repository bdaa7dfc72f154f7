# SPDX-License-Identifier: Apache-2.0
"""What `gsqc data` shows of a data set: counts, a histogram of lengths, and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gsqc.data.labelled_text import texts_of
from gsqc.data.padded import PaddedSequences
from gsqc.data.piece_store import PieceStore
from gsqc.data.sequences import Dataset, TokenSequence
from gsqc.data.tokenizer import Tokenizer

BINS = 10
EXAMPLES = 3


@dataclass(frozen=True)
class Bin:
    """How many records have `low` to `high` tokens, both included."""

    low: int
    high: int
    records: int


def length_histogram(lengths: list[int], bins: int = BINS) -> list[Bin]:
    """How many lengths lie in each bin. There are at most `bins`, of equal and round width."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = _round_up(-(-(high - low + 1) // bins))
    start = low // width * width
    counts = [0] * ((high - start) // width + 1)
    for length in lengths:
        counts[(length - start) // width] += 1
    return [
        Bin(start + k * width, start + (k + 1) * width - 1, count) for k, count in enumerate(counts)
    ]


def _round_up(width: int) -> int:
    """The width, or the next of 1, 2, 5, 10, 20, 50, …"""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step >= width:
                return factor * step
        step *= 10


def counts(dataset: Dataset, length: int) -> dict[str, Any]:
    """Counts of records, sequences, tokens and what was cut, as JSON data by name."""
    sequences, lengths = dataset.sequences, sorted(dataset.record_lengths)
    used, trained = _totals(sequences)
    return {
        "records": len(lengths),
        "shapes": dataset.shapes,
        "sequences": len(sequences),
        "sequence_length": length,
        "tokens": used,
        "trained_tokens": trained,
        "padding_share": round(1 - used / (len(sequences) * length), 4),
        "truncated_records": dataset.truncated_records,
        "truncated_tokens": dataset.truncated_tokens,
        "skipped_records": dataset.skipped_records,
        "empty_records": dataset.empty_records,
        "unused_keys": dataset.unused_keys,
        "not_read": {
            kind: {"count": count, "first": first}
            for kind, (count, first) in dataset.unread_by_kind().items()
        },
        "held_out_by_name": dataset.held_out_by_name,
        "held_out_twice": dataset.held_out_twice,
        "control_tokens": dataset.control_tokens,
        "control_records": dataset.control_records,
        "shortest": lengths[0],
        "median": lengths[len(lengths) // 2],
        "longest": lengths[-1],
    }


def _totals(sequences: Sequence[TokenSequence]) -> tuple[int, int]:
    """How many inputs are no padding, and how many have a loss."""
    if isinstance(sequences, PaddedSequences):  # to pad each would take most of the time
        pieces = sequences.pieces
        if isinstance(pieces, PieceStore):
            return len(pieces.tokens) - len(pieces), int(pieces.counted.sum())
        used = sum(len(piece.tokens) - 1 for piece in pieces)
        return used, sum(int(piece.counted[1:].sum()) for piece in pieces)
    used = sum(map(_used, sequences))
    return used, sum(sequence.weighted_tokens for sequence in sequences)


def _used(sequence: TokenSequence) -> int:
    """How many inputs are no padding.

    Inputs at the end are taken for padding if their tokens, labels and weights are all 0.
    """
    ends = (array.nonzero()[0] for array in (sequence.tokens, sequence.labels, sequence.weights))
    return max((int(end[-1]) + 1 for end in ends if len(end)), default=0)


def example_parts(sequence: TokenSequence, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """The text of a sequence in parts. The flag of a part says whether it has a loss."""
    if tokenizer.labels is not None:
        return _labelled_parts(sequence, tokenizer, tokenizer.labels)
    used = _used(sequence)
    tokens = [int(sequence.tokens[0]), *sequence.labels[:used].tolist()]
    counted = [False, *(sequence.weights[:used] > 0).tolist()]
    parts = groupby(zip(tokens, counted, strict=True), key=lambda pair: pair[1])
    return [
        (tokenizer.decode([token for token, _ in part], special=True), trained)
        for trained, part in parts
    ]


def _labelled_parts(
    sequence: TokenSequence, tokenizer: Tokenizer, labels: Sequence[str]
) -> list[tuple[str, bool]]:
    """The texts of a sequence, each with its label behind it. The labels have the loss."""
    parts = []
    for tokens, label in texts_of(sequence):
        text = tokenizer.decode(tokens.tolist(), special=True)
        parts += [(text, False), (f" {labels[label]}", True)]
    return parts


def example_numbers(count: int, examples: int = EXAMPLES) -> list[int]:
    """Numbers of sequences to show: the first, the last, and some evenly between."""
    shown = min(count, examples)
    return [k * (count - 1) // max(shown - 1, 1) for k in range(shown)]
