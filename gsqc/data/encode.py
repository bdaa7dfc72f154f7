# SPDX-License-Identifier: Apache-2.0
"""Examples become tokens, and some of the tokens have a loss: they count.

prompt, completion
    beginning + tokens(prompt + newline) + tokens(completion) + end of text
    The completion and the end count.
chat
    the tokens of the text that the model's template makes of it
    The turns of the assistant count.
document
    beginning + tokens(text) + end of text, cut into pieces without a gap
    All tokens count.

The beginning is what the model's own tokenizer puts before a text (BOS). For many models it is
nothing. A template writes its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gsqc.data.chat import ChatRenderer
from gsqc.data.records import Chat, Document, Example, Prompted
from gsqc.data.sequences import Piece
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError

_TEXT_PART = 1 << 20
"""Characters that are tokenised at once, to bound the memory. A longer text is cut at line ends."""


class Encoder:
    """Turns examples into pieces of at most `length` + 1 tokens.

    Without `mask_prompt` every token counts.
    """

    def __init__(
        self, tokenizer: Tokenizer, length: int, renderer: ChatRenderer, *, mask_prompt: bool
    ) -> None:
        self.tokenizer, self.length, self.renderer, self.mask_prompt = (
            tokenizer,
            length,
            renderer,
            mask_prompt,
        )

    def encode(self, example: Example) -> Piece:
        """All tokens of an example, which may be too many for a sequence.

        Raises ValueError if the chat template refuses it.
        """
        if isinstance(example, Prompted):
            return self._prompted(example)
        return self._chat(example) if isinstance(example, Chat) else self._document(example)

    def cut(self, example: Example, whole: Piece) -> Iterator[Piece]:
        """The pieces of an example's tokens that fit into a sequence and have a loss.

        A document is cut into several. Of other examples the beginning is kept.
        """
        step = self.length if isinstance(example, Document) else max(len(whole.tokens), 1)
        for start in range(0, max(len(whole.tokens) - 1, 0), step):
            part = slice(start, start + self.length + 1)
            tokens, counted = whole.tokens[part].copy(), whole.counted[part].copy()
            counted[0] = False
            if counted.any():
                yield Piece(tokens, counted)

    @property
    def _end(self) -> list[int]:
        return [] if self.tokenizer.eos is None else [self.tokenizer.eos]

    def _prompted(self, example: Prompted) -> Piece:
        head = self.tokenizer.encode_prompt(example.prompt)
        tokens = head + self.tokenizer.encode(example.completion) + self._end
        return _piece(tokens, [(len(head) if self.mask_prompt else 0, len(tokens))])

    def _document(self, example: Document) -> Piece:
        tokens = list(self.tokenizer.beginning)
        for part in _text_parts(example.text):
            tokens += self.tokenizer.encode(part)
        tokens += self._end
        return _piece(tokens, [(0, len(tokens))])

    def _chat(self, example: Chat) -> Piece:
        rendered = self.renderer.render(example, mask_prompt=self.mask_prompt)
        tokens, starts = self.tokenizer.encode_with_starts(rendered.text)
        # A token belongs to the turn in which its first character lies. A token that begins in the
        # prompt belongs to the prompt.
        bounds = [(_first(starts, a), _first(starts, b)) for a, b in rendered.spans]
        return _piece(tokens, bounds)


def _first(starts: npt.NDArray[np.int64], character: int) -> int:
    """The number of the first token that begins at a character or after it."""
    return int(np.searchsorted(starts, character))


def _piece(tokens: list[int], bounds: list[tuple[int, int]]) -> Piece:
    """The tokens as a Piece. Those within the bounds count, but never the first."""
    counted = np.zeros(len(tokens), np.bool_)
    for start, end in bounds:
        counted[start:end] = True
    counted[:1] = False
    return Piece(np.array(tokens, np.int32), counted)


def _text_parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _TEXT_PART:
        end = text.rfind("\n", start, start + _TEXT_PART) + 1
        end = end if end > start else start + _TEXT_PART
        yield text[start:end]
        start = end
    yield text[start:]


def chat_prompt(tokenizer: Tokenizer, text: str, system: str | None = None) -> list[int]:
    """The tokens that the assistant's answer to `text` follows, by the model's chat template.

    Raises DataError if there is no template, or if it refuses the messages.
    """
    messages = [{"role": "system", "content": system}] if system is not None else []
    chat = Chat([*messages, {"role": "user", "content": text}])
    with ChatRenderer(tokenizer.chat_template, tokenizer.template_variables) as renderer:
        try:
            return tokenizer.encode(renderer.prompt(chat))
        except ValueError as error:
            raise DataError(str(error), "generate without --chat, or without --system") from None
