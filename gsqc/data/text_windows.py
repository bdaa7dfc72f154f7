# SPDX-License-Identifier: Apache-2.0
"""A text as windows without a gap, for its perplexity.

before:  t0 t1 t2 t3 t4 t5 t6                           T = 3
after:   [s t0 t1 | t0 t1 t2] [t2 t3 t4 | t3 t4 t5] [t5 · · | t6 · ·]        tokens | labels

s is what the model's tokenizer puts before a text: BOS. Where it puts nothing, the end of text
stands there, as before an answer to an empty prompt. So every token of the text has one loss. A
window sees nothing of the one before it but its last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsqc.data.content import Content
from gsqc.data.directories import DataFile
from gsqc.data.encode import text_parts
from gsqc.data.padded import PaddedSequences
from gsqc.data.sequences import Piece
from gsqc.data.tokenizer import Int32, Tokenizer
from gsqc.errors import DataError


@dataclass(frozen=True)
class TextWindows:
    """The windows of a text, and the bytes of the text that they give losses.

    sequences   of T tokens. The last one is padded
    text_bytes  UTF-8 bytes of the tokens that have a loss
    """

    sequences: PaddedSequences
    text_bytes: int


def read_text_windows(
    path: Path, tokenizer: Tokenizer, length: int, limit: int | None = None
) -> TextWindows:
    """The windows of `length` tokens of a file's text, the first `limit` of them.

    Raises DataError for a file that cannot be read, is not UTF-8, is empty, or has fewer than two
    tokens, and BundleError if the tokenizer fails.
    """
    text = Content(DataFile(path, str(path))).text()
    if not text:
        raise DataError(f"{path} is empty", "give a text")
    tokens, ends = _encode(text, tokenizer)
    if len(tokens) < 2:
        raise DataError(
            f"{path} has {len(tokens)} tokens, and a perplexity needs two", "give a longer text"
        )
    # An empty prompt is the beginning alone. A text that has it gets no second one.
    start = tokenizer.encode_prompt("")
    start = [] if tokens[: len(start)].tolist() == start else start
    everything = np.array([*start, *tokens], np.int32)
    counted = np.arange(len(everything)) >= max(len(start), 1)
    pieces = [
        Piece(everything[at : at + length + 1], counted[at : at + length + 1])
        for at in range(0, len(everything) - 1, length)
    ][:limit]
    last = sum(len(piece.tokens) - 1 for piece in pieces) - len(start)
    first = 0 if start else int(ends[0])
    return TextWindows(PaddedSequences(pieces, length), int(ends[last]) - first)


def _encode(text: str, tokenizer: Tokenizer) -> tuple[Int32, npt.NDArray[np.int64]]:
    """The tokens of a text, and the byte of the text at which each ends."""
    parts = list(text_parts(text))
    tokens, ends, done = [], [], 0
    for part, (ids, _, after) in zip(parts, tokenizer.encode_each_with_ranges(parts), strict=True):
        # Ranges are of characters, and a character has one to four bytes in UTF-8.
        characters = np.frombuffer(part.encode("utf-32-le"), np.uint32)
        sizes = 1 + sum((characters > most).astype(np.int64) for most in (0x7F, 0x7FF, 0xFFFF))
        bytes_before = done + np.concatenate([[0], np.cumsum(sizes)])
        tokens.append(ids)
        ends.append(bytes_before[after])
        done = int(bytes_before[-1])
    return np.concatenate(tokens), np.concatenate(ends)
