# SPDX-License-Identifier: Apache-2.0
"""Tokens of texts by the words in them, for a text of data repeats its words.

Tokenizers of the kinds of GPT-2, Llama 3 and Qwen 2 first split a text by a pattern. None of the
pattern's parts goes on from a visible character to a space, and none looks behind itself. So a
space behind a visible character always begins a part, and what stands on its two sides can be
tokenised alone. The same holds between a line's end and a letter, if a visible character stands
before the line's end. `tokenizer_process` knows which tokenizers are of these kinds. A text that
holds an added token is left to the tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gsqc.data.control_tokens import any_of

Int32 = npt.NDArray[np.int32]

_WORD = re.compile(r"\s*+\S++(?:\n(?=[A-Za-z])|(?:[^\S ]\s*+\S*+)*+)|\s++")
_MOST_CHARACTERS = 32
"""Of a word that is kept. Longer ones hardly come twice."""
_MOST_WORDS = 1 << 19
"""Words that are kept: about 100 MB."""


class WordCache:
    """Tokenises texts by their words.

    encode  tokenises texts
    added   the texts of added tokens, or None if texts may not be cut into words
    """

    def __init__(
        self, encode: Callable[[Sequence[str]], list[Int32]], added: Sequence[str] | None
    ) -> None:
        self._encode, self._cuts = encode, added is not None
        self._firsts = sorted({text[:1] for text in added or ()})
        self._added = any_of(added or ())
        self._tokens: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[Int32]:
        """The token ids of each text."""
        if not self._cuts or sum(map(len, texts)) < _MOST_CHARACTERS:
            return self._encode(texts)
        words = [[text] if self._has_added(text) else _WORD.findall(text) for text in texts]
        if len(self._tokens) > _MOST_WORDS:
            self._tokens.clear()
        new = sorted(set().union(*words) - self._tokens.keys())
        given = dict(zip(new, (ids.tobytes() for ids in self._encode(new)), strict=True))
        long = {word for word in new if len(word) > _MOST_CHARACTERS}
        self._tokens.update(given)
        tokens = [b"".join(map(self._tokens.__getitem__, parts)) for parts in words]
        for word in long:
            del self._tokens[word]
        return [np.frombuffer(ids, np.int32) for ids in tokens]

    def _has_added(self, text: str) -> bool:
        may_have = any(first in text for first in self._firsts)
        return may_have and self._added.search(text) is not None
