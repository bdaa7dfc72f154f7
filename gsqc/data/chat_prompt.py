# SPDX-License-Identifier: Apache-2.0
"""The tokens of a prompt in the form of a chat."""

from __future__ import annotations

from typing import Any

from gsqc.data.encode import chat_renderer
from gsqc.data.examples import Chat
from gsqc.data.form import chat_messages
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError


def chat_prompt(
    tokenizer: Tokenizer, text: str, system: str | None = None, tools: list[Any] | None = None
) -> list[int]:
    """The tokens that the assistant's answer to `text` follows, by the model's chat template.

    Raises DataError if there is no template, or if it refuses the messages.
    """
    chat = Chat(chat_messages(text, system), tools)
    with chat_renderer(tokenizer) as renderer:
        try:
            return tokenizer.encode(renderer.prompt(chat))
        except ValueError as error:
            raise DataError(str(error), "generate without --chat, or without --system") from None
