# SPDX-License-Identifier: Apache-2.0
"""Tokens of texts by the words in them, for a text of data repeats its words.

Tokenizers of the kinds of GPT-2, Llama 3 and Qwen 2 first split a text by a pattern. None of the
pattern's parts goes on from a visible character to a space, and none looks behind itself. So a
space behind a visible character always begins a part, and what stands on its two sides can be
tokenised alone. The same holds between a line's end and a letter, if a visible character stands
before the line's end. `tokenizer_process` knows which tokenizers are of these kinds. A text that
holds an added token is left to the tokenizer.

A word is known by its key:

\\0 and a text     that text: what begins a text, and every word of a text with odd spaces
\\n and a word     the word, at the begin of a line
a word            the word with a space before it

A key has \\n behind it if the line ends there. Nearly all texts are cut at spaces and line ends
alone, which Python does fastest. Only a word that is not known yet is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gsqc.data.control_tokens import any_of

_WORD = re.compile(r"\s*+\S++(?:\n(?=[A-Za-z])|(?:[^\S ]\s*+\S*+)*+)|\s++")
_KEY = re.compile(r"\0(?s:.*)|(?:\n(?=[A-Za-z]))?[^\n]*\S\n?")
"""The keys of words that may be cut out of their text."""
_START, _LINE = "\0", "\n"
_MOST_CHARACTERS = 32
"""Of a word that is kept. Longer ones hardly come twice."""
_MOST_WORDS = 1 << 19
"""Words that are kept: about 100 MB."""


class WordCache:
    """Tokenises texts by their words.

    encode  tokenises texts, int32 as bytes
    added   the texts of added tokens, or None if texts may not be cut into words
    """

    def __init__(
        self, encode: Callable[[Sequence[str]], list[bytes]], added: Sequence[str] | None
    ) -> None:
        self._encode, self._cuts = encode, added is not None
        self._firsts = sorted({text[:1] for text in added or ()})
        self._added = any_of(added or ())
        self._tokens: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """The token ids of each text, int32."""
        joined = _LINE.join(texts)
        if not self._cuts or len(joined) < _MOST_CHARACTERS or _START in joined:
            return self._encode(texts)
        if len(self._tokens) > _MOST_WORDS:
            self._tokens.clear()
        may_have_added = any(first in joined for first in self._firsts)
        tokens = [b""] * len(texts)
        unknown: dict[int, list[str]] = {}
        for k, text in enumerate(texts):
            whole = may_have_added and self._added.search(text) is not None
            keys = [_START + text] if whole else _fast_keys(text)
            try:
                tokens[k] = self._joined(keys)
            except KeyError:
                unknown[k] = keys
        new = self._learn(texts, unknown) if unknown else []
        for k, keys in unknown.items():
            tokens[k] = self._joined(keys)
        for key in new:
            if len(key) > _MOST_CHARACTERS:
                del self._tokens[key]
        return tokens

    def _joined(self, keys: list[str]) -> bytes:
        """The tokens of words. KeyError if one is not known."""
        return b"".join(map(self._tokens.__getitem__, keys))

    def _learn(self, texts: Sequence[str], unknown: dict[int, list[str]]) -> list[str]:
        """Tokenise the new words of the texts with these numbers. Their keys are returned.

        The keys of a text that may not be cut so are replaced in `unknown`.
        """
        new = set().union(*unknown.values()).difference(self._tokens)
        if not all(map(_KEY.fullmatch, new)):
            for k, keys in unknown.items():
                if not all(map(_KEY.fullmatch, new.intersection(keys))):
                    unknown[k] = _careful_keys(texts[k])
            new = set().union(*unknown.values()).difference(self._tokens)
        words = list(new)
        self._tokens.update(zip(words, self._encode([*map(_text, words)]), strict=True))
        return words


def _fast_keys(text: str) -> list[str]:
    """The keys of a text, some of which may be no words."""
    words = text.split(" ")
    if _LINE in text:
        words = []
        for line in text.split(_LINE):
            words += f"{_LINE}{line}{_LINE}".split(" ")
        words[0] = words[0][1:]
        words[-1] = words[-1][:-1]
        if words[-1] == _LINE:  # the text ends with a line's end, which the word before has
            words.pop()
    if not _KEY.fullmatch(words[0]):
        return _careful_keys(text)
    words[0] = _START + words[0]
    return words


def _careful_keys(text: str) -> list[str]:
    """The keys of any text."""
    return [_START + word for word in _WORD.findall(text)]


def _text(key: str) -> str:
    """The text of a key."""
    return key[1:] if key[0] in (_START, _LINE) else f" {key}"
