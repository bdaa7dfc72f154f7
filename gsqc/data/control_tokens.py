# SPDX-License-Identifier: Apache-2.0
"""Finds control tokens that stand in users' own text, where they are rarely meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gsqc.data.examples import Chat, Document, Example, Labelled


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the leftmost and longest of some texts."""
    return re.compile("|".join(map(re.escape, sorted(set(texts), key=len, reverse=True))))


class ControlTokens:
    """Finds the texts of special tokens in examples."""

    def __init__(self, special: Iterable[str]) -> None:
        texts = [text for text in special if text]
        # Nearly all begin with one of few characters, which most texts do not have.
        self._firsts = sorted({text[0] for text in texts})
        self._pattern = any_of(texts)

    def found_in(self, example: Example) -> list[str]:
        """Those that stand in an example, each as often as it does."""
        found: list[str] = []
        for text in _texts(example):
            for first in self._firsts:
                if first in text:
                    found += self._pattern.findall(text)
                    break
        return found


def _texts(example: Example) -> Iterator[str]:
    """What a user wrote of an example."""
    if isinstance(example, Chat):
        yield from (m["content"] for m in example.messages if isinstance(m.get("content"), str))
    elif isinstance(example, Document | Labelled):
        yield example.text
    else:
        yield from (example.prompt, example.completion)
