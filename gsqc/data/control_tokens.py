# SPDX-License-Identifier: Apache-2.0
"""Counts control tokens that stand in users' own text, where they are rarely meant to be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gsqc.data.examples import Chat, Document, Example, Labelled


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the leftmost and longest of some texts."""
    return re.compile("|".join(map(re.escape, sorted(set(texts), key=len, reverse=True))))


class ControlTokens:
    """Counts the texts of special tokens in examples.

    found    how often each stands in the text
    records  in how many records any does
    """

    def __init__(self, special: Iterable[str]) -> None:
        texts = [text for text in special if text]
        # Nearly all begin with one of few characters, which most texts do not have.
        self._firsts = sorted({text[0] for text in texts})
        self._pattern = any_of(texts)
        self.found: Counter[str] = Counter()
        self.records = 0

    def take(self, found: Mapping[str, int], records: int) -> None:
        """Add what was counted elsewhere."""
        self.found.update(found)
        self.records += records

    def look_at(self, example: Example) -> None:
        """Count what stands in an example."""
        has_any = False
        for text in _texts(example):
            for first in self._firsts:
                if first in text:
                    tokens = self._pattern.findall(text)
                    self.found.update(tokens)
                    has_any = has_any or bool(tokens)
                    break
        self.records += has_any


def _texts(example: Example) -> Iterator[str]:
    """What a user wrote of an example."""
    if isinstance(example, Chat):
        yield from (m["content"] for m in example.messages if isinstance(m.get("content"), str))
    elif isinstance(example, Document | Labelled):
        yield example.text
    else:
        yield from (example.prompt, example.completion)
