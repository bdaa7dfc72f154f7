# SPDX-License-Identifier: Apache-2.0
"""sequence_of_text: a text that a classifier is asked about, as it would read it in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from gsqc.data.encode import Encoder, Reading, chat_renderer
from gsqc.data.examples import Document, is_unicode
from gsqc.data.sequences import Piece, TokenSequence
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError


def sequence_of_text(tokenizer: Tokenizer, text: Any, length: int) -> tuple[TokenSequence, int]:
    """A text with the first label, and how many tokens it has, with those that do not fit.

    Raises DataError.
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
