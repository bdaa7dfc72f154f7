# SPDX-License-Identifier: Apache-2.0
"""Generation: read a prompt, pick a token, read that token, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import index
from typing import Any, SupportsIndex

from gsqc.bundle.manifest import Manifest
from gsqc.decimals import as_fraction
from gsqc.errors import DataError
from gsqc.limits import MAXIMUM_NEW_TOKENS, MAXIMUM_SEED, MAXIMUM_TEMPERATURE
from gsqc.runtime.sampling import end_tokens, pick_token
from gsqc.runtime.token_reader import TokenReader
from gsqc.values import require_whole


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn. Build it with `require_drawing`, which checks the values."""

    max_tokens: int
    temperature: Fraction
    seed: int


def require_drawing(max_tokens: Any, temperature: Any, seed: Any) -> Drawing:
    """The values as they are used. OptionError for one out of range.

    A temperature may be a Fraction, a number, or a decimal text. Below 0 it would prefer the
    unlikeliest token.
    """
    return Drawing(
        require_whole("max_tokens", max_tokens, 1, MAXIMUM_NEW_TOKENS),
        as_fraction(temperature, "temperature", MAXIMUM_TEMPERATURE),
        require_whole("seed", seed, 0, MAXIMUM_SEED),
    )


def token_ids(prompt: Iterable[SupportsIndex], vocabulary: int, what: str = "prompt") -> list[int]:
    """The tokens of a prompt as integers, be it a list or an array. Raises DataError."""
    try:
        tokens = [index(token) for token in prompt]
    except TypeError:
        raise DataError(f"the {what} is no list of token ids", "give whole numbers") from None
    if not tokens:
        raise DataError(f"the {what} is empty", "give at least one token")
    if not all(0 <= t < vocabulary for t in tokens):
        raise DataError(
            f"tokens outside [0, {vocabulary - 1}]", "use the tokenizer of the bundle's model"
        )
    return tokens


def generate_tokens(
    reader: TokenReader, manifest: Manifest, tokens: list[int], drawing: Drawing
) -> Iterator[int]:
    """The tokens after those of a prompt, as `Session.generate` describes them."""
    model, length = manifest.model, manifest.sequence_length
    ends = end_tokens(model.eos_token_id) | end_tokens(model.end_token_ids)
    waiting = tokens[-length:]
    seen: list[int] = []
    reader.start()
    for number in range(drawing.max_tokens):
        logits = reader.read(waiting)
        seen += waiting
        token = pick_token(logits, drawing.temperature, drawing.seed, number)
        if token in ends:
            return
        yield token
        waiting = [token]
        if reader.position == length:
            # The window is full. Positions are part of the keys, so what stays is read again.
            waiting = [*seen[-(length // 2) :], token]
            reader.start()
