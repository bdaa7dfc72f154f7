# SPDX-License-Identifier: Apache-2.0
"""Texts of a classifier as sequences, also without a known label, and what a sequence holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gsqc.data.encode import Encoder, Reading, chat_renderer
from gsqc.data.examples import Document, is_unicode
from gsqc.data.sequences import Piece, TokenSequence
from gsqc.data.tokenizer import Int32, Tokenizer
from gsqc.errors import DataError


def sequence_of_text(tokenizer: Tokenizer, text: Any, length: int) -> tuple[TokenSequence, int]:
    """A text that a classifier is asked about, as it would read it in training.

    It has the first label. The number is that of its tokens, with those that do not fit. Raises
    DataError.
    """
    if not isinstance(text, str) or not is_unicode(text) or "\0" in text or not text.strip():
        raise DataError("a text to classify is empty, or no text in UTF-8", "give some words")
    with chat_renderer(tokenizer) as renderer:
        encoder = Encoder(tokenizer, renderer, Reading(length))
        given = encoder.prepare(Document(text, 0))
    (whole,) = encoder.encode([given])
    (cut,) = encoder.cut(given.example, whole)
    piece = Piece(np.frombuffer(cut.ids, np.int32), np.frombuffer(cut.counted, np.bool_))
    return piece.pad_labelled(length), len(whole.counted) - 1


class TextTokens(NamedTuple):
    """The tokens of a text, int32 [n], and the number of its label."""

    tokens: Int32
    label: int


def texts_of(sequence: TokenSequence) -> Iterator[TextTokens]:
    """The texts of a sequence that `Piece.pad_labelled` made. Padding is none: it has no weight."""
    starts = np.flatnonzero(sequence.positions == 0).tolist()
    for start, end in pairwise([*starts, len(sequence.positions)]):
        if sequence.weights[start]:
            yield TextTokens(sequence.tokens[start:end], int(sequence.labels[start]))
