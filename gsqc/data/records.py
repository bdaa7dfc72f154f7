# SPDX-License-Identifier: Apache-2.0
"""Records of a file of data: which shape they have, and what is in them.

messages [, tools]              a chat
conversations                   a chat in ShareGPT's form, whose turns have `from` and `value`
prompt, completion              a prompt and what the model is to answer
instruction [, input], output   Alpaca's, put into Alpaca's prompt
text                            a document

Other keys of a record are ignored. Where a record fits several shapes, the first of this list wins.
Alpaca's prompt is that of https://github.com/tatsu-lab/stanford_alpaca.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gsqc.bundle.json_text import check_depth

SHAPES = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "prompt + completion": ("prompt", "completion"),
    "instruction + output": ("instruction", "output"),
    "text": ("text",),
}
"""Each shape with the keys that a record must have. Any of them shows the shape."""

KEYS = (
    "messages",
    "tools",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
)
ROLES = ("system", "developer", "user", "assistant", "tool")
_SHAREGPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_ALPACA = (
    "Below is an instruction that describes a task{}. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}{}\n\n### Response:"
)


@dataclass(frozen=True)
class Prompted:
    """A prompt, which may be empty, and its completion. The form is prompt or alpaca."""

    prompt: str
    completion: str
    form: str = "prompt"


@dataclass(frozen=True)
class Chat:
    """Messages with role and content, and the tools that the template may show the model.

    learned  for each message, whether it has a loss if it is the assistant's. None: all have.
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


@dataclass
class RecordReader:
    """Turns the records of one file into examples. All must have the shape of the first."""

    shape: str | None = field(default=None)

    def read(self, record: Any) -> Example:
        """The example that a record is. Raises ValueError, which says what is wrong with it."""
        if not isinstance(record, dict):
            array = (
                " but an array (a file that is one array of records is named .json)"
                if isinstance(record, list)
                else ""
            )
            raise ValueError(f"not a JSON object{array}")
        shape = next((s for s, keys in SHAPES.items() if any(k in record for k in keys)), None)
        if shape is None:
            raise ValueError(f"the record has none of {', '.join(SHAPES)}")
        if self.shape not in (None, shape):
            raise ValueError(f"a record of {shape} in a file of {self.shape}")
        missing = [key for key in SHAPES[shape] if key not in record]
        if missing:
            raise ValueError(f"the record has no {missing[0]}")
        example = _READERS[shape](record)
        self.shape = shape
        return example


def _text(record: dict[str, Any], key: str, *, empty: bool = True) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{key} has half of a surrogate pair")
    if not empty and not value.strip():
        raise ValueError(f"the {key} is empty")
    return value


def _prompted(record: dict[str, Any]) -> Prompted:
    return Prompted(_text(record, "prompt"), _text(record, "completion", empty=False))


def _alpaca(record: dict[str, Any]) -> Prompted:
    instruction = _text(record, "instruction", empty=False)
    output = _text(record, "output", empty=False)
    given = _text({"input": "", **record}, "input")
    return Prompted(alpaca_prompt(instruction, given), output, "alpaca")


def alpaca_prompt(instruction: str, given: str = "") -> str:
    """Alpaca's prompt for an instruction, and for an input if one is given."""
    further = ", paired with an input that provides further context" if given.strip() else ""
    shown = f"\n\n### Input:\n{given}" if given.strip() else ""
    return _ALPACA.format(further, instruction, shown)


def _document(record: dict[str, Any]) -> Document:
    return Document(_text(record, "text", empty=False))


def _conversation(record: dict[str, Any]) -> Chat:
    turns = record["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations is not a list of objects")
    if any("role" in turn for turn in turns):
        return _chat({"messages": turns})
    messages = []
    for number, turn in enumerate(turns, 1):
        speaker = turn.get("from")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT:
            raise ValueError(
                f"turn {number} is from {_shown(speaker)}, not one of {', '.join(_SHAREGPT)}"
            )
        messages.append({"role": _SHAREGPT[speaker], "content": turn.get("value")})
    return _chat({"messages": messages})


def _chat(record: dict[str, Any]) -> Chat:
    messages, tools = record["messages"], record.get("tools")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(m, dict) for m in messages)
    ):
        raise ValueError("messages is not a list of objects with role and content")
    if tools is not None and not isinstance(tools, list):
        raise ValueError("tools is not a list")
    read = [_message(message, number) for number, message in enumerate(messages, 1)]
    if not any(message["role"] == "assistant" for message in read):
        raise ValueError("no turn of the assistant, so nothing to learn")
    try:
        check_depth([read, tools])
        json.dumps([read, tools], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a message has half of a surrogate pair") from None
    except TypeError:  # a row of a table may hold bytes or a date
        raise ValueError("a message has a value that JSON cannot hold") from None
    return Chat(read, tools)


def _shown(value: Any) -> str:
    """A value for a message: a text in quotes, None, or the kind of another value."""
    if isinstance(value, str):
        return repr(value[:40])
    return "None" if value is None else f"a {type(value).__name__}"


def _message(message: dict[str, Any], number: int) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(
            f"message {number} has the role {_shown(role)}, not one of {', '.join(ROLES)}"
        )
    if isinstance(content, list):
        content = _joined(content, number)
    calls = role == "assistant" and content is None and message.get("tool_calls")
    if not isinstance(content, str) and not calls:
        raise ValueError(f"message {number} has no content")
    if (
        role == "assistant"
        and not calls
        and not str(content).strip()
        and not message.get("tool_calls")
    ):
        raise ValueError(f"message {number}, of the assistant, is empty")
    return {**message, "content": content}


def _joined(parts: list[Any], number: int) -> str:
    """The text of content in parts, as the OpenAI format has it."""
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"message {number} has a part that is not text")
    return "".join(map(str, texts))


_READERS: dict[str, Callable[[dict[str, Any]], Example]] = {
    "messages": _chat,
    "conversations": _conversation,
    "prompt + completion": _prompted,
    "instruction + output": _alpaca,
    "text": _document,
}
