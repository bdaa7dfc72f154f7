# SPDX-License-Identifier: Apache-2.0
"""Makes the random batches that a check steps on, the same ones on every machine."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.numerics.random import random_bits
from gsqc.runtime.session import Session

CHECK_RATE = "0.001"
"""The learning rate of every step of a check."""


def random_sequences(bundle: Bundle, step: int, seed: int) -> list[TokenSequence]:
    """The batch of a step: random tokens, of which every eighth has weight 0."""
    length, batch = bundle.manifest.sequence_length, bundle.manifest.batch
    sequences = []
    for k in range(batch):
        bits = random_bits(seed, step * batch + k, np.arange(length + 1))
        tokens = (bits % bundle.manifest.model.vocabulary).astype(np.int32)
        classes = bundle.manifest.model.labels
        labels = tokens[1:].copy() if classes is None else tokens[1:] % np.int32(len(classes))
        weights = np.where(np.arange(length) % 8 == 7, 0, WEIGHT_ONE).astype(np.int32)
        sequences.append(TokenSequence(tokens[:-1].copy(), labels, weights))
    return sequences


def random_step(session: Session, step: int, seed: int) -> str:
    """Take a step of a check, counted from 1, and return the digest after it."""
    return session.step(random_sequences(session.bundle, step, seed), Fraction(CHECK_RATE)).digest
