# SPDX-License-Identifier: Apache-2.0
"""Corpus: the pieces of some files, with counts of what happened to their records.

It is also put into arrays and a JSON object, for the file of kept tokens and for other processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.data.encode import Encoded, Encoder, Prepared
from gsqc.data.examples import Document, Example
from gsqc.data.form import SharedParts
from gsqc.data.piece_store import PieceStore
from gsqc.data.problems import Problems
from gsqc.data.records import LABEL
from gsqc.data.sequences import Dataset

ARRAYS: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype(np.int32),
    "counted": np.dtype(np.uint8),
    "lengths": np.dtype(np.int32),
    "record_lengths": np.dtype(np.int32),
}
"""The types of what `Corpus.arrays` gives."""
_COUNTS = (
    *("truncated_records", "truncated_tokens", "skipped_records", "shapes", "empty_records"),
    *("first_empty", "unused_keys", "control_tokens", "control_records"),
)
"""The fields of a Dataset that reading counts. Others are known without it, or are arrays."""
_SHARED = "shared"
Arrays = Mapping[str, npt.NDArray[Any]]


class Progress:
    """Tells how many bytes of all files are read."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.total, self._tell, self._before = total, tell, 0

    def at(self, position: int) -> None:
        """So many bytes of the present file are read."""
        if self._tell is not None:
            self._tell(min(self._before + position, self.total), self.total)

    def end(self, size: int) -> None:
        """A file of that size is read."""
        self.at(size)
        self._before += size


@dataclass
class Corpus:
    """The pieces of some files, and what was cut of their records."""

    pieces: PieceStore = field(default_factory=PieceStore)
    statistics: Dataset = field(default_factory=Dataset)

    def add(self, batch: Sequence[Prepared], encoded: Sequence[Encoded], encoder: Encoder) -> None:
        """Cut the tokens of each record of a batch and count them."""
        for given, whole in zip(batch, encoded, strict=True):
            self._add(given.example, whole, encoder)

    def _add(self, example: Example, whole: Encoded, encoder: Encoder) -> None:
        statistics, before = self.statistics, len(self.pieces)
        for piece in encoder.cut(example, whole):
            self.pieces.add(piece.ids, piece.counted)
        count = len(whole.counted)
        statistics.record_lengths.append(count)
        statistics.shapes[example.form] = statistics.shapes.get(example.form, 0) + 1
        statistics.shared.add(example)
        if control := encoder.control.found_in(example):
            _count(statistics.control_tokens, Counter(control))
            statistics.control_records += 1
        if len(self.pieces) == before:
            statistics.skipped_records += 1
        elif not isinstance(example, Document):
            lost = max(count - (encoder.reading.length + 1), 0)
            statistics.truncated_records += lost > 0
            statistics.truncated_tokens += lost

    def tell(self, problems: Problems, encoder: Encoder) -> None:
        """Take over what is only to be told of a file. Raises DataError for problems."""
        problems.raise_any()
        statistics = self.statistics
        statistics.empty_records += problems.empty
        statistics.first_empty = statistics.first_empty or problems.first_empty
        if encoder.tokenizer.labels is not None:
            problems.unused.pop(LABEL, None)  # it is the label of a text
        _count(statistics.unused_keys, problems.unused)

    def take(self, part: Corpus) -> None:
        """Put what comes behind it behind it."""
        self.pieces.extend(part.pieces)
        ours, theirs = self.statistics, part.statistics
        ours.record_lengths += theirs.record_lengths
        ours.first_empty = ours.first_empty or theirs.first_empty
        ours.shared.take(theirs.shared)
        for name in _COUNTS:
            counted = getattr(theirs, name)
            if isinstance(counted, int):
                setattr(ours, name, getattr(ours, name) + counted)
            elif isinstance(counted, dict):
                _count(getattr(ours, name), counted)

    def counts(self) -> dict[str, Any]:
        """All but the arrays, as JSON."""
        counted = {name: getattr(self.statistics, name) for name in _COUNTS}
        return counted | {_SHARED: asdict(self.statistics.shared)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The pieces, and the lengths of the records. Nothing may be added while they are used."""
        arrays = (
            self.pieces.tokens,
            self.pieces.counted.view(np.uint8),
            np.diff(self.pieces.ends, prepend=0).astype(np.int32),
            np.array(self.statistics.record_lengths, np.int32),
        )
        return dict(zip(ARRAYS, arrays, strict=True))

    @classmethod
    def of(cls, arrays: Arrays, counts: Any) -> Corpus:
        """What `arrays` and `counts` gave. ValueError, KeyError or TypeError if it is not that."""
        tokens, counted, lengths, records = (arrays[name] for name in ARRAYS)
        ends = lengths.astype(np.int64).cumsum()
        is_typed = all(arrays[name].dtype == kind for name, kind in ARRAYS.items())
        if not is_typed or lengths.min(initial=2) < 2:
            raise ValueError("the arrays are no pieces")
        if not int(lengths.sum(dtype=np.int64)) == len(tokens) == len(counted):
            raise ValueError("the arrays do not fit each other")
        if tokens.min(initial=0) < 0 or counted.max(initial=0) > 1:
            raise ValueError("the arrays do not fit each other")
        pieces = PieceStore.of(tokens, counted.view(np.bool_), ends)
        return cls(pieces, _statistics(counts, records))


def _count(sums: dict[str, int], further: Mapping[str, int]) -> None:
    """Add counts to those of the same name."""
    for name, count in further.items():
        sums[name] = sums.get(name, 0) + count


def _statistics(counts: Any, records: npt.NDArray[Any]) -> Dataset:
    """The counts of a corpus. As `Corpus.of`."""
    if set(counts) != {*_COUNTS, _SHARED}:
        raise ValueError("the counts are others")
    shared = SharedParts.of(counts.pop(_SHARED))
    for name, value in counts.items():
        if type(value) is not type(getattr(Dataset(), name)):
            raise ValueError(f"{name} is of another type")
        if isinstance(value, dict) and any(type(n) is not int for n in value.values()):
            raise ValueError(f"{name} holds no counts")
    return Dataset(record_lengths=records.tolist(), shared=shared, **counts)
