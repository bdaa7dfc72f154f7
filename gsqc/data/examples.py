# SPDX-License-Identifier: Apache-2.0
"""What a record of data is, whatever form it was written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def is_unicode(text: str) -> bool:
    """Whether a text has no halves of surrogate pairs, which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Prompted:
    """A prompt, which may be empty, and its completion. The form is prompt or alpaca."""

    prompt: str
    completion: str
    form: str = "prompt"


@dataclass(frozen=True)
class Chat:
    """Messages with role and content, and the tools that the template may show the model.

    learned  whether each message has a loss. None: all turns of the assistant have
    """

    form = "chat"
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    learned: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Document:
    """A text. The model is trained on every token of it."""

    form = "document"
    text: str


Example = Prompted | Chat | Document
