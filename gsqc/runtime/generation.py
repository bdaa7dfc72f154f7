# SPDX-License-Identifier: Apache-2.0
"""Generation: read a prompt, pick a token, read that token, and so on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from gsqc.bundle.manifest import Manifest
from gsqc.errors import DataError
from gsqc.runtime.sampling import end_tokens, pick_token
from gsqc.runtime.token_reader import TokenReader


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
    if len(prompt) == 0:
        raise DataError("the prompt is empty", "give at least one token")
    if not all(isinstance(t, (int, np.integer)) and 0 <= t < vocabulary for t in prompt):
        raise DataError(
            f"the prompt has tokens that are no whole numbers in [0, {vocabulary - 1}]",
            "use the tokenizer of the bundle's model",
        )
    ends = end_tokens(manifest.model.eos_token_id)
    waiting = [int(t) for t in prompt[-length:]]
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
