# SPDX-License-Identifier: Apache-2.0
"""Generation: read a prompt, pick a token, read that token, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from operator import index
from typing import SupportsIndex

from gsqc.bundle.manifest import Manifest
from gsqc.errors import DataError
from gsqc.runtime.sampling import end_tokens, pick_token
from gsqc.runtime.token_reader import TokenReader


def token_ids(prompt: Iterable[SupportsIndex], vocabulary: int) -> list[int]:
    """The tokens of a prompt as integers, be it a list or an array. Raises DataError."""
    try:
        tokens = [index(token) for token in prompt]
    except TypeError:
        raise DataError("the prompt is no list of token ids", "give whole numbers") from None
    if not tokens:
        raise DataError("the prompt is empty", "give at least one token")
    if not all(0 <= t < vocabulary for t in tokens):
        raise DataError(
            f"tokens outside [0, {vocabulary - 1}]", "use the tokenizer of the bundle's model"
        )
    return tokens


def generate_tokens(
    reader: TokenReader,
    manifest: Manifest,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    temperature: Fraction,
    seed: int,
) -> Iterator[int]:
    """The tokens after `prompt`, as `Session.generate` describes them. Raises DataError."""
    vocabulary, length = manifest.model.vocabulary, manifest.sequence_length
    tokens = token_ids(prompt, vocabulary)
    ends = end_tokens(manifest.model.eos_token_id)
    waiting = tokens[-length:]
    seen: list[int] = []
    reader.start()
    for number in range(max_tokens):
        logits = reader.read(waiting)
        seen += waiting
        token = pick_token(logits, temperature, seed, number)
        if token in ends:
            return
        yield token
        waiting = [token]
        if reader.position == length:
            # The window is full. Positions are part of the keys, so what stays is read again.
            waiting = [*seen[-(length // 2) :], token]
            reader.start()
