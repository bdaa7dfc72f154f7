# SPDX-License-Identifier: Apache-2.0
"""HeldOut: the held-out sequences of a run, and those of them that its evaluations take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsqc.data import Dataset, TokenSequence
from gsqc.data.load import HELD_OUT_SEED
from gsqc.numerics.random import permutation

_STREAM = 1
"""Stream 0 of the seed draws the share that is held out."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out data. Its evaluations take `limit` sequences, or all of them if it is 0.

    gsqc's own generator draws them once. They are the same on every machine and in every
    evaluation, or losses could not be compared.
    """

    sequences: Sequence[TokenSequence] = ()
    limit: int = 0
    report: str | None = None

    @staticmethod
    def of(dataset: Dataset | None, limit: int) -> HeldOut:
        """The held-out data of a run, which may be none."""
        if dataset is None:
            return HeldOut()
        return HeldOut(dataset.sequences, limit, dataset.report())

    def count(self) -> int:
        """How many sequences an evaluation takes."""
        return min(self.limit or len(self.sequences), len(self.sequences))

    def drawn(self) -> Sequence[TokenSequence]:
        """The sequences of an evaluation, in the order of the data."""
        total, count = len(self.sequences), self.count()
        if count == total:
            return self.sequences
        return [
            self.sequences[k] for k in sorted(permutation(total, HELD_OUT_SEED, _STREAM)[:count])
        ]
