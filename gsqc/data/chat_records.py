# SPDX-License-Identifier: Apache-2.0
"""Chats of several forms: messages, ShareGPT's turns, and prompts and completions of messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gsqc.bundle.json_text import check_depth
from gsqc.data.examples import Chat
from gsqc.data.meanings import is_learned, refuse_keys, without_flags
from gsqc.data.problems import Nothing
from gsqc.data.tool_records import check_calls, read_tools, sharegpt_calls

ROLES = ("system", "developer", "user", "assistant", "tool")
SYSTEM = ("system", "system_prompt")
"""Keys of a record that hold the text of a first message of the system."""
_TEXTS = ("text", "content", "value")
"""Keys of a part's text: OpenAI's, torchtune's and LLaMA-Factory's. axolotl takes each."""
_REASONING = ("reasoning_content", "thinking", "reasoning")
_SHAREGPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
}
_CALL = "function_call"
"""ShareGPT's turn in which the assistant calls a tool: JSON with name and arguments."""


def read_messages(record: dict[str, Any]) -> Chat:
    """The chat of {messages [, tools] [, system]}. Raises ValueError."""
    return _chat(_with_system(record, _objects(record, "messages")), record)


def read_conversation(record: dict[str, Any]) -> Chat:
    """The chat of ShareGPT's {conversations [, tools] [, system]}. Raises ValueError."""
    turns = record["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations is not a list of objects")
    if not any("role" in turn for turn in turns):
        turns = [_from_sharegpt(turn, number) for number, turn in enumerate(turns, 1)]
    return _chat(_with_system(record, turns), record)


def read_conversational(record: dict[str, Any]) -> Chat:
    """The chat of TRL's {prompt, completion}, both lists of messages. The completion counts.

    Raises ValueError.
    """
    prompt, completion = (_objects(record, key) for key in ("prompt", "completion"))
    messages = _with_system(record, [*prompt, *completion])
    return _chat(messages, record, first_learned=len(messages) - len(completion))


def _objects(record: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = record[key]
    if not isinstance(found, list) or not found or not all(isinstance(m, dict) for m in found):
        raise ValueError(f"{key} is not a list of objects with role and content")
    return found


def _with_system(record: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages behind the record's own `system`, which some tools put beside them."""
    key = next((key for key in SYSTEM if record.get(key) not in (None, "")), None)
    if key is None:
        return messages
    system = record[key]
    if not isinstance(system, str):
        raise ValueError(f"{key} is not a text")
    if messages and messages[0].get("role") == "system":
        if messages[0].get("content") == system:
            return messages
        raise ValueError(f"the record has a {key} and another first message of the system")
    return [{"role": "system", "content": system}, *messages]


def _from_sharegpt(turn: dict[str, Any], number: int) -> dict[str, Any]:
    """A turn with `from` and `value` as a message. Its other keys stay."""
    speaker, value = turn.get("from"), turn.get("value")
    others = {key: part for key, part in turn.items() if key not in ("from", "value")}
    if speaker == _CALL:
        return {"role": "assistant", "tool_calls": sharegpt_calls(value, number), **others}
    if not isinstance(speaker, str) or speaker not in _SHAREGPT:
        raise ValueError(
            f"turn {number} is from {shown(speaker)}, not one of {', '.join((*_SHAREGPT, _CALL))}"
        )
    return {"role": _SHAREGPT[speaker], "content": value, **others}


def _chat(
    messages: Sequence[dict[str, Any]], record: dict[str, Any], first_learned: int | None = None
) -> Chat:
    """A chat of checked messages. Those before `first_learned` have no loss."""
    tools = read_tools(record.get("tools"))
    flags = [is_learned(message, number) for number, message in enumerate(messages, 1)]
    read = [_message(message, number) for number, message in enumerate(messages, 1)]
    learned = None
    if first_learned is not None or any(flag is not None for flag in flags):
        learned = tuple(
            message["role"] == "assistant" and flag is not False and k >= (first_learned or 0)
            for k, (message, flag) in enumerate(zip(read, flags, strict=True))
        )
    for number, (message, flag) in enumerate(zip(read, flags, strict=True), 1):
        if flag and message["role"] != "assistant":
            raise ValueError(f"message {number} is to be learned, and not of the assistant")
    if not any(learned or [message["role"] == "assistant" for message in read]):
        raise Nothing("no turn of the assistant, so nothing to learn")
    try:
        check_depth([read, tools])
        text = json.dumps([read, tools], ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a message has half of a surrogate pair") from None
    except TypeError:  # a row of a table may hold bytes or a date
        raise ValueError("a message has a value that JSON cannot hold") from None
    if "\\u0000" in text:
        raise ValueError("a message has a zero byte, so it is no text")
    return Chat(read, tools, learned)


def _message(message: dict[str, Any], number: int) -> dict[str, Any]:
    refuse_keys(message)
    role, content = message.get("role"), message.get("content")
    if role is None:
        raise ValueError(f"message {number} has no role (one of {', '.join(ROLES)})")
    if role not in ROLES:
        raise ValueError(
            f"message {number} has the role {shown(role)}, not one of {', '.join(ROLES)}"
        )
    if isinstance(content, list):
        _check_parts(message, number)
        content = _joined(content, number)
    calls = check_calls(message, number)
    for key in _REASONING:
        if not isinstance(message.get(key), str | None):
            raise ValueError(f"message {number} has {key} that is not a text")
    if "content" not in message and not calls:
        raise ValueError(f"message {number} has no content")
    if role == "assistant" and not calls and not str(content or "").strip():
        raise Nothing(f"message {number}, of the assistant, is empty")
    if not isinstance(content, str) and not (calls and content is None):
        what = "no content" if content is None else f"content that is {shown(content)}, not a text"
        raise ValueError(f"message {number} has {what}")
    return {**without_flags(message), "content": content}


def _joined(parts: list[Any], number: int) -> str:
    """The text of content in parts, as the OpenAI format has it. The key may be another tool's."""
    texts = [
        next((part[key] for key in _TEXTS if key in part), None)
        if isinstance(part, dict) and part.get("type") == "text"
        else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"message {number} has a part that is not text")
    return "".join(map(str, texts))


def _check_parts(message: dict[str, Any], number: int) -> None:
    """ValueError for a part whose own flag (axolotl's) says another thing than its message."""
    is_assistant, flag = message.get("role") == "assistant", is_learned(message, number)
    for part in message["content"]:
        own = is_learned(part, number) if isinstance(part, dict) else None
        if flag is not False and own not in (None, is_assistant):
            raise ValueError(
                f"message {number} has a part with a flag of its own: "
                "loss is of whole messages, so give the flag to the message"
            )


def shown(value: Any) -> str:
    """A value for a message: a text in quotes, None, or the kind of another value."""
    if isinstance(value, str):
        return repr(value[:40])
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
