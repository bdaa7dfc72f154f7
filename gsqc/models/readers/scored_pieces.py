# SPDX-License-Identifier: Apache-2.0
"""SentencePiece tokenizers of GGUF files, whose tokenizer.ggml.model is llama, as tokenizer.json.

A text is one word, its spaces written as ▁. Of all neighbours that together are a token, llama.cpp
joins those whose token has the best score (llm_tokenizer_spm in src/llama-vocab.cpp). Here each way
to make a token of two others is a merge, and merges are in the order of the scores. What is no
token then is written by its bytes.

Of equal scores, llama.cpp joins the leftmost, and a list of merges has one first. Models of
SentencePiece have no equal scores but those of tokens that a text is cut at before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

SPACE = "▁"
BYTE = 6
"""ggml's token type of the tokens <0x00> to <0xFF>."""
MOST_CHARACTERS = 512
"""Of a token. All its halves are looked at."""


def merges_by_score(
    tokens: Sequence[str], scores: Sequence[float], left_out: Collection[str]
) -> list[list[str]]:
    """Each pair of tokens that makes a token, the best score first, equal ones in file order.

    left_out  tokens that no text is merged to: bytes, and those that a text is cut at
    """
    # Of two equal tokens the last counts.
    known = {token: k for k, token in enumerate(tokens) if token not in left_out}
    found = []
    for token, k in known.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in known and right in known:
                found.append((-scores[k], k, known[left], left, right))
    return [[left, right] for *_, left, right in sorted(found)]


def is_usable(tokens: Sequence[str], scores: Any) -> bool:
    """Whether there is a finite score for each token, and no token is too long to be one."""
    return (
        isinstance(scores, list)
        and len(scores) == len(tokens)
        and all(isinstance(score, float) and math.isfinite(score) for score in scores)
        and all(len(token) <= MOST_CHARACTERS for token in tokens)
    )


def normalizer(*, prefix: bool) -> dict[str, Any]:
    """Spaces become ▁, with one more before each part of the text if `prefix`."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if not prefix:
        return replace
    return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}


def decoder(*, prefix: bool) -> dict[str, Any]:
    """The way back: ▁ to spaces, bytes to text, and without the space that was put first."""
    parts: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}
