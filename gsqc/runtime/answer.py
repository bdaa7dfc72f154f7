# SPDX-License-Identifier: Apache-2.0
"""answer_prompt: what a session answers to a prompt. All commands and functions ask it here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, SupportsIndex

from gsqc.bundle.bundle import Bundle
from gsqc.data.prompt import PromptForm
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from gsqc.runtime.generation import Drawing, token_ids


class Generator(Protocol):
    """What is asked: a Session."""

    bundle: Bundle
    sequence_length: int

    def generate(
        self, prompt: list[int], max_tokens: int, temperature: Fraction, seed: int, /
    ) -> Iterable[int]:
        """The tokens after a prompt."""


@dataclass(frozen=True)
class Question:
    """A prompt and how it is answered.

    prompt       a text, or token ids, which have no form
    form         the form of a text
    drawing      how tokens are drawn, and how many at most
    strict       refuse a prompt that is longer than a sequence. Else its beginning is dropped
    """

    prompt: str | Iterable[SupportsIndex]
    form: PromptForm
    drawing: Drawing
    strict: bool = False


@dataclass(frozen=True)
class Answer:
    """What was answered.

    tokens          those of the answer
    prompt_tokens   how many the prompt has
    dropped_tokens  how many of them were dropped
    notes           what was dropped, in sentences
    """

    text: str
    tokens: list[int]
    prompt_tokens: int
    dropped_tokens: int
    notes: list[str]


def answer_prompt(
    session: Generator,
    tokenizer: Tokenizer,
    asked: Question,
    watch: Callable[[list[int]], object] = lambda made: None,
) -> Answer:
    """The session's answer. `watch` is called after each token with all that were made.

    Raises OptionError, DataError, BundleError.
    """
    given = asked.prompt
    given = asked.form.tokens(tokenizer, given) if isinstance(given, str) else given
    tokens = token_ids(given, session.bundle.manifest.model.vocabulary)
    length = session.sequence_length
    if asked.strict and len(tokens) > length:
        raise DataError(
            f"the prompt has {len(tokens)} tokens, and the bundle's sequences have {length}",
            "shorten it, compile with a longer --seq, or leave --strict out to drop its beginning",
        )
    made: list[int] = []
    how = asked.drawing
    for token in session.generate(tokens, how.max_tokens, how.temperature, how.seed):
        made.append(token)
        watch(made)
    notes = what_is_dropped(len(tokens), len(made), length)
    dropped = max(len(tokens) - length, 0)
    return Answer(tokenizer.decode(made), made, len(tokens), dropped, notes)


def what_is_dropped(prompt: int, made: int, length: int) -> list[str]:
    """What sequences of `length` tokens drop of `prompt` tokens and of `made` after them."""
    lost, kept = max(prompt - length, 0), min(prompt, length)
    told = []
    if lost:
        told.append(
            f"the first {lost} of the prompt's {prompt} tokens were dropped: "
            f"the bundle's sequences have {length}"
        )
    # The window is full after its last token was read, and that gives one more token.
    if made > (whole := length - kept + 1):
        told.append(
            f"after {whole} tokens the text was longer than the bundle's sequences of {length}, "
            "so its beginning was dropped"
        )
    return told
