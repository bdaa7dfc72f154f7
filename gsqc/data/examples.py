# SPDX-License-Identifier: Apache-2.0
"""What a record of data is, whatever form it was written in; and Alpaca's prompt.

Alpaca's prompt is that of https://github.com/tatsu-lab/stanford_alpaca.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_ALPACA = (
    "Below is an instruction that describes a task{}. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}{}\n\n### Response:"
)


def is_unicode(text: str) -> bool:
    """Whether a text has no halves of surrogate pairs, which no tokenizer takes."""
    if text.isascii():
        return True
    try:
        text.encode()
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
    """A text. The model is trained on every token of it.

    label  what its record says beside it. It has a meaning for a classifier alone, so texts are
           equal whatever it is
    """

    form = "document"
    text: str
    label: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Labelled:
    """A text and the number of its label. A classifier is trained to give it that."""

    form = "label"
    text: str
    label: int


Example = Prompted | Chat | Document | Labelled


def alpaca_prompt(instruction: str, given: str = "") -> str:
    """Alpaca's prompt for an instruction, and for an input if one is given."""
    further = ", paired with an input that provides further context" if given.strip() else ""
    shown = f"\n\n### Input:\n{given}" if given.strip() else ""
    return _ALPACA.format(further, instruction, shown)
