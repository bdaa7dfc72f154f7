# SPDX-License-Identifier: Apache-2.0
"""Where the assistant's turns are in the text of a chat.

A part of the program chat_process, which imports nothing of gsqc but its own files.

A turn is the difference of two renderings: of the messages before it with the generation prompt,
and of the messages up to it. Both must be beginnings of the whole text. Where a template writes
earlier turns in another way, marks around the message's content are rendered. That takes two or
three renderings a turn, and so the square of the turns.

In a long chat most turns are like others: the same text leads from the message before to the turn,
and the same text closes it. So all contents are marked in one rendering. Only the first turn of a
kind and the last ones are rendered one by one. A turn between that is not like them is, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from os.path import commonprefix
from typing import Protocol

from gsqc.data.chat_template import CLOSE, OPEN, ChatError, Messages, unmarked

Span = tuple[int, int]
_FEW = 16
"""Turns that are found one by one."""
_LAST = 2


class Render(Protocol):
    """A template, with the tools of a chat."""

    def __call__(self, messages: Messages, /, *, prompt: bool = False) -> str:
        """The text. Raises ChatError."""


@dataclass(frozen=True)
class _Like:
    """The texts that turns of a kind have around them.

    lead     from the content before to the turn
    closing  from the turn's content to its end, or None if it has no content
    follow   from its end to the content behind it, for such a turn
    """

    lead: str
    closing: str | None
    follow: str


def assistant_spans(
    render: Render, messages: Messages, full: str, wanted: list[int], ends: list[str]
) -> dict[int, Span]:
    """The place in `full` of each of the `wanted` messages, which are the assistant's.

    ends  texts of tokens that end a turn

    Raises ChatError if a turn is not found.
    """
    finder = _Finder(render, messages, full, ends, marked=len(wanted) > _FEW)
    spans: dict[int, Span] = {}
    end = 0
    for position, number in enumerate(wanted):
        is_last = position >= len(wanted) - _LAST
        found = finder.exact(number) if is_last else finder.find(number)
        if found is None or found[0] < end:
            turn = f"message {number + 1}, the assistant's,"
            raise ChatError(f"the chat template does not show where {turn} begins")
        spans[number] = found
        end = found[1]
    return spans


class _Finder:
    """Finds turns in the text of one chat. `marked` says whether turns are compared."""

    def __init__(
        self, render: Render, messages: Messages, full: str, ends: list[str], *, marked: bool
    ) -> None:
        self.render, self.messages, self.full, self.ends = render, messages, full, ends
        self._places = _content_places(render, messages, full) if marked else {}
        self._known: dict[tuple[object, ...], _Like] = {}

    def find(self, number: int) -> Span | None:
        """A turn by the first of its kind, or as `exact` does."""
        before, own, after = (self._places.get(number + k) for k in (-1, 0, 1))
        if before is None or (own or after) is None:
            return self.exact(number)
        around = self.messages[number - 1 : number + 2]
        kind = (*(message["role"] for message in around), own is None)
        known = self._known.get(kind)
        found = None if known is None else self._alike(known, before, own, after)
        if found is None:
            found = self.exact(number)
            if known is None and found is not None:
                self._learn(kind, found, before, own, after)
        return found

    def _learn(
        self,
        kind: tuple[object, ...],
        found: Span,
        before: Span,
        own: Span | None,
        after: Span | None,
    ) -> None:
        start, end = found
        closing = None if own is None else self.full[own[1] : end]
        follow = self.full[end : after[0]] if own is None and after else ""
        if before[1] <= start and (own is None or start <= own[0] <= own[1] <= end):
            self._known[kind] = _Like(self.full[before[1] : start], closing, follow)

    def _alike(
        self, known: _Like, before: Span, own: Span | None, after: Span | None
    ) -> Span | None:
        """The turn if the texts around it are those of `known`."""
        start = before[1] + len(known.lead)
        if not self.full.startswith(known.lead, before[1]):
            return None
        if own is not None and known.closing is not None:
            fits = start <= own[0] and self.full.startswith(known.closing, own[1])
            return (start, own[1] + len(known.closing)) if fits else None
        end = (after[0] if after else 0) - len(known.follow)
        return (start, end) if start < end and self.full.startswith(known.follow, end) else None

    def exact(self, number: int) -> Span | None:
        """A turn by renderings of its own, or None."""
        return self._by_beginnings(number) or self._by_marks(number)

    def _attempt(self, messages: Messages, *, prompt: bool = False) -> str | None:
        """The text, or None where the template refuses a part of a chat."""
        try:
            return self.render(messages, prompt=prompt)
        except ChatError:
            return None

    def _by_beginnings(self, number: int) -> Span | None:
        head = self._attempt(self.messages[:number], prompt=True)
        is_last = number == len(self.messages) - 1
        upto = self.full if is_last else self._attempt(self.messages[: number + 1])
        if head is None or upto is None or len(upto) <= len(head):
            return None
        is_beginning = self.full.startswith(head) and self.full.startswith(upto)
        return (len(head), len(upto)) if is_beginning else None

    def _by_marks(self, number: int) -> Span | None:
        content = self.messages[number].get("content")
        if not isinstance(content, str):
            return None
        before, behind = self.messages[:number], self.messages[number + 1 :]
        for inside in (content, content.strip()):
            marked = {**self.messages[number], "content": f"{OPEN}{inside}{CLOSE}"}
            text = self._attempt([*before, marked, *behind]) or ""
            if (text.count(OPEN), text.count(CLOSE)) != (1, 1) or unmarked(text) != self.full:
                continue
            start, end = text.index(OPEN), text.index(CLOSE) - 1
            closing = (self._attempt([*before, marked]) or "").partition(CLOSE)[2]
            rest = self.full[end : end + len(closing)]
            same = commonprefix([closing, rest])  # noqa: RUF071
            # They may be alike beyond the end: <|end|></s> and <|end|><|user|>.
            stops = [same.index(text) + len(text) for text in self.ends if text in same]
            return start, end + min([len(same), *stops])
        return None


def _content_places(render: Render, messages: Messages, full: str) -> dict[int, Span]:
    """Where the content of each message is in the text, by its number. {} if marks change it."""
    for strip in (False, True):
        marked, numbers = [], []
        for number, message in enumerate(messages):
            content = message.get("content")
            if isinstance(content, str) and content.strip():
                inside = content.strip() if strip else content
                message = {**message, "content": f"{OPEN}{inside}{CLOSE}"}
                numbers.append(number)
            marked.append(message)
        try:
            text = render(marked)
        except ChatError:
            return {}
        marks = [at for at, character in enumerate(text) if character in (OPEN, CLOSE)]
        in_order = "".join(text[at] for at in marks) == (OPEN + CLOSE) * len(numbers)
        if in_order and unmarked(text) == full:
            places = [at - k for k, at in enumerate(marks)]
            return dict(zip(numbers, zip(places[::2], places[1::2], strict=True), strict=True))
    return {}
