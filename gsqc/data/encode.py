# SPDX-License-Identifier: Apache-2.0
"""Examples become tokens, and some of the tokens have a loss: they count.

prompt, completion
    beginning + tokens(prompt + its end, a newline) + tokens(completion) + end of text
    The completion and the end count.
chat
    the tokens of the text that the model's template makes of it
    The turns of the assistant count.
document
    beginning + tokens(text) + end of text, cut into pieces without a gap
    All tokens count.
text with a label, for a classifier
    beginning + tokens(text) + what the tokenizer puts behind a text, then the label's number
    The label counts. Of a longer text the beginning is kept.

The beginning is what the model's own tokenizer puts before a text (BOS). For many models it is
nothing. A template writes its own. A text that has a beginning or an end gets no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gsqc.data.chat import ChatRenderer
from gsqc.data.control_tokens import ControlTokens
from gsqc.data.examples import Chat, Document, Example, Labelled, Prompted
from gsqc.data.labels import labelled
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.seen import ImageTable, Seen
from gsqc.data.tokenizer import Int32, Tokenizer

_TEXT_PART = 1 << 20
"""Characters that are tokenised at once, to bound the memory. A longer text is cut at line ends."""


@dataclass(frozen=True)
class Prepared:
    """An example as texts to be tokenised.

    texts  a prompt with its end and a completion, the parts of a document, or a chat
    spans  the characters of a chat that have a loss
    images the tokens of its images, for which the texts have placeholders
    """

    example: Example
    texts: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    images: tuple[Int32, ...] = ()


class Tokens(NamedTuple):
    """The tokens of the texts of a batch: of chats with their ranges, and of all others."""

    chats: list[tuple[Int32, Int32, Int32]]
    others: list[bytes]


class Encoded(NamedTuple):
    """Tokens as bytes: arrays would take most of the time, for most records are short.

    ids      int32 [n]
    counted  n bytes: 1 if a token has a loss. The first never has: nothing stands before it.
    """

    ids: bytes
    counted: bytes


Convert = Callable[[Example], Example]
"""Makes another example of one, such as one in another form."""


@dataclass(frozen=True)
class Reading:
    """How records become pieces of tokens.

    length       tokens of a sequence
    mask_prompt  without it, every token counts
    prompt_end   what stands between a prompt and its completion
    strict       whether a record with nothing to learn is an error
    """

    length: int
    mask_prompt: bool = True
    prompt_end: str = DEFAULT_END
    strict: bool = False


class Encoder:
    """Turns examples into pieces of at most `reading.length` + 1 tokens.

    `convert`, if given, makes another example of each first.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        renderer: ChatRenderer,
        reading: Reading,
        convert: Convert | None = None,
        images: ImageTable | None = None,
    ) -> None:
        self.tokenizer, self.renderer, self._images = tokenizer, renderer, images
        self.reading, self._convert = reading, convert
        control = tokenizer.control_tokens()
        placeholder = None if images is None else images.text
        self.control = ControlTokens(text for text in control if text != placeholder)
        self._control_ids = np.array(sorted(control.values()), np.int32)
        self._beginning = np.array(tokenizer.beginning, np.int32).tobytes()
        self._ending = np.array(tokenizer.ending, np.int32).tobytes()
        self._end = b"" if tokenizer.eos is None else np.int32(tokenizer.eos).tobytes()

    def prepare(self, example: Example | Seen) -> Prepared:
        """The texts of an example. Raises ValueError if the chat template refuses it, or if it has
        not one placeholder for each image.
        """
        if isinstance(example, Seen):
            assert self._images is not None
            prepared, text = self.prepare(example.example), self._images.text
            count = sum(part.count(text) for part in prepared.texts)
            if count != len(example.images):
                raise ValueError(f"{len(example.images)} images and {count} times {text}")
            return replace(prepared, images=example.images)
        if self.tokenizer.labels is not None:
            example = labelled(example, self.tokenizer.labels)
            return Prepared(example, tuple(text_parts(example.text)))
        if self._convert is not None:
            example = self._convert(example)
        if isinstance(example, Prompted):
            prompt = example.prompt and example.prompt + self.reading.prompt_end
            return Prepared(example, (prompt, example.completion))
        if isinstance(example, Document):
            return Prepared(example, tuple(text_parts(example.text)))
        assert isinstance(example, Chat)
        rendered = self.renderer.render(example, mask_prompt=self.reading.mask_prompt)
        return Prepared(example, (rendered.text,), tuple(rendered.spans))

    def tokens(self, batch: Sequence[Prepared]) -> Tokens:
        """The tokens of all texts. It may run in a thread of its own, one batch at a time."""
        chats = [given.texts[0] for given in batch if isinstance(given.example, Chat)]
        others = [t for given in batch if not isinstance(given.example, Chat) for t in given.texts]
        return Tokens(
            self.tokenizer.encode_each_with_ranges(chats), self.tokenizer.encode_each(others)
        )

    def encode(self, batch: Sequence[Prepared], tokens: Tokens | None = None) -> list[Encoded]:
        """All tokens of each example, which may be too many for a sequence.

        tokens  what `self.tokens` gives for the batch
        """
        tokens = self.tokens(batch) if tokens is None else tokens
        chats, others = iter(tokens.chats), iter(tokens.others)
        return [
            self._with_images(given, self._chat(given, *next(chats)))
            if isinstance(given.example, Chat)
            else self._with_images(given, self._plain(given, [next(others) for _ in given.texts]))
            for given in batch
        ]

    def _with_images(self, given: Prepared, whole: Encoded) -> Encoded:
        if self._images is None:
            return whole
        return Encoded(*self._images.expand(whole.ids, whole.counted, given.images))

    def _chat(self, given: Prepared, ids: Int32, starts: Int32, ends: Int32) -> Encoded:
        """The tokens of a chat, and the characters that each stands for."""
        spans = np.array(given.spans, np.int64).reshape(-1, 2)
        # A token counts if any of its characters does, as in transformers' mask.
        first = np.searchsorted(ends, spans[:, 0], "right")
        last = np.searchsorted(starts, spans[:, 1])
        # A control token is another turn's if it is not all of this one's.
        cut = (last > first) & (ends[last - 1] > spans[:, 1])
        last -= cut & np.isin(ids[last - 1], self._control_ids)
        counted = np.zeros(len(ids), np.bool_)
        for start, end in zip(first, last, strict=True):
            counted[start:end] = True
        counted[:1] = False
        return Encoded(ids.tobytes(), counted.tobytes())

    def _plain(self, given: Prepared, parts: list[bytes]) -> Encoded:
        """The tokens of a prompt with its completion, of a document, or of a text and its label."""
        if isinstance(given.example, Labelled):
            ids = b"".join((self._beginning, *parts, self._ending, _number(given.example.label)))
            return Encoded(ids, bytes(len(ids) // 4 - 1) + b"\1")
        filled = next(filter(None, parts), self._end)
        before = b"" if filled.startswith(self._beginning) else self._beginning
        after = b"" if self.tokenizer.is_ended(given.texts[-1], parts[-1]) else self._end
        start = 0
        if isinstance(given.example, Prompted):
            if not given.example.prompt and not self._beginning:
                before = self._end
            start = len(before + parts[0]) // 4 if self.reading.mask_prompt else 0
        ids = b"".join((before, *parts, after))
        start = max(start, 1)
        return Encoded(ids, (bytes(start) + b"\1" * (len(ids) // 4 - start))[: len(ids) // 4])

    def cut(self, example: Example, whole: Encoded) -> Iterator[Encoded]:
        """The pieces of an example's tokens that fit into a sequence and have a loss.

        A document is cut into several. Of other examples the beginning is kept.
        """
        count, length = len(whole.counted), self.reading.length
        if isinstance(example, Labelled):
            yield self._cut_text(whole, length)
            return
        step = length if isinstance(example, Document) else max(count, 1)
        for start in range(0, max(count - 1, 0), step):
            end = start + length + 1
            counted = b"\0" + whole.counted[start + 1 : end]
            if b"\1" in counted:
                yield Encoded(whole.ids[4 * start : 4 * end], counted)

    def _cut_text(self, whole: Encoded, length: int) -> Encoded:
        """A text with its label, whose middle is cut out: its ending and its label stay."""
        lost = len(whole.counted) - (length + 1)
        if lost <= 0:
            return whole
        kept = -len(self._ending) - len(_number(0))
        return Encoded(whole.ids[: kept - 4 * lost] + whole.ids[kept:], whole.counted[lost:])


def _number(number: int) -> bytes:
    return np.int32(number).tobytes()


def text_parts(text: str) -> Iterator[str]:
    """A text in parts of bounded size, which end at line ends."""
    start = 0
    while len(text) - start > _TEXT_PART:
        end = text.rfind("\n", start, start + _TEXT_PART) + 1
        end = end if end > start else start + _TEXT_PART
        yield text[start:end]
        start = end
    yield text[start:]


def chat_renderer(tokenizer: Tokenizer) -> ChatRenderer:
    """A renderer with the model's own templates. It starts with the first chat."""
    return ChatRenderer(
        tokenizer.chat_template,
        tokenizer.template_variables,
        tokenizer.control_tokens(),
        tokenizer.end_texts,
    )
