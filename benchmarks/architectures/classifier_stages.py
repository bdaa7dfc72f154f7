# SPDX-License-Identifier: Apache-2.0
"""A bundle of a tiny classifier: as `bundle_stages`, with texts and labels in place of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.architectures.bundle_stages import ALPHA, LENGTH, RANK, RECORDS, Trial, command
from benchmarks.architectures.encoders import CLASSES
from benchmarks.float_lora import with_adapter_of
from gsqc.data import TokenSequence
from gsqc.data.labelled_text import texts_of
from gsqc.data.sequences import Piece

TRAINED = 4


def labelled_sequences() -> list[TokenSequence]:
    """Sequences of two texts of random bytes and padding behind them. Each text has any label."""
    rng, sequences = np.random.default_rng(2), []
    for _ in range(RECORDS):
        first, second = rng.integers(5, LENGTH // 2 + 1, 2).tolist()
        tokens = rng.integers(0, 256, first + second + 2, dtype=np.int32)
        tokens[[first, -1]] = rng.integers(0, CLASSES, 2)  # each piece ends with its label
        counted = np.ones(len(tokens), np.bool_)
        sequences.append(Piece(tokens, counted, (0, first + 1)).pad_labelled(LENGTH))
    return sequences


class ClassifierTrial(Trial):
    """One bundle of a classifier. It decodes nothing, and gsqc imports no adapter for it."""

    generates = False

    def sequences(self) -> list[TokenSequence]:
        """What losses are taken of."""
        return labelled_sequences()

    def loss(self, model: Any, given: Sequence[TokenSequence]) -> torch.Tensor:
        """The mean loss of a float model, which reads each text alone and without padding."""
        losses = []
        for text in (text for sequence in given for text in texts_of(sequence)):
            tokens = torch.from_numpy(text.tokens).long()[None]
            label = torch.tensor([text.label])
            losses.append(torch.nn.functional.cross_entropy(model(input_ids=tokens).logits, label))
        return torch.stack(losses).mean()

    def training(self) -> list[TokenSequence]:
        """What the steps are taken on: eight texts, for the loss of one falls to nothing."""
        return self.sequences()[:TRAINED]

    def trainable(self) -> Any:
        """The float base with the untrained run's adapter. The head has an adapter, too."""
        return with_adapter_of(self.session, self.base, RANK, ALPHA)

    def export(self, name: str) -> None:
        """Export the run's adapter for PEFT, with the task SEQ_CLS and the head."""
        run, place = self.folder / "start", self.folder / name
        model = ("--peft", place, "--model", self.directory)
        command("export", self.bundle, "--run", run, *model)
