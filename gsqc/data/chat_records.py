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

ROLES = ("system", "developer", "user", "assistant", "tool")
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
    system = record.get("system")
    if system in (None, ""):
        return messages
    if not isinstance(system, str):
        raise ValueError("system is not a text")
    if messages and messages[0].get("role") == "system":
        raise ValueError("the record has a system and a first message of the system")
    return [{"role": "system", "content": system}, *messages]


def _from_sharegpt(turn: dict[str, Any], number: int) -> dict[str, Any]:
    """A turn with `from` and `value` as a message. Its other keys stay."""
    speaker, value = turn.get("from"), turn.get("value")
    others = {key: part for key, part in turn.items() if key not in ("from", "value")}
    if speaker == _CALL:
        return {"role": "assistant", "tool_calls": _calls(value, number), **others}
    if not isinstance(speaker, str) or speaker not in _SHAREGPT:
        raise ValueError(
            f"turn {number} is from {shown(speaker)}, not one of {', '.join((*_SHAREGPT, _CALL))}"
        )
    return {"role": _SHAREGPT[speaker], "content": value, **others}


def _calls(value: Any, number: int) -> list[dict[str, Any]]:
    """The calls of a turn: a JSON object with name and arguments, or a list of such."""
    try:
        calls = json.loads(value)
        calls = calls if isinstance(calls, list) else [calls]
        return [
            {"type": "function", "function": {k: call[k] for k in ("name", "arguments")}}
            for call in calls
        ]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"turn {number} is no JSON with name and arguments") from None


def _chat(
    messages: Sequence[dict[str, Any]], record: dict[str, Any], first_learned: int | None = None
) -> Chat:
    """A chat of checked messages. Those before `first_learned` have no loss."""
    tools = _tools(record.get("tools"))
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


def _tools(value: Any) -> list[Any] | None:
    """The tools of a record. A text is their JSON, for a table cannot hold them otherwise."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            raise ValueError("tools is not a list") from None
    if value is not None and not isinstance(value, list):
        raise ValueError("tools is not a list")
    return value


def _message(message: dict[str, Any], number: int) -> dict[str, Any]:
    refuse_keys(message)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(
            f"message {number} has the role {shown(role)}, not one of {', '.join(ROLES)}"
        )
    if isinstance(content, list):
        content = _joined(content, number)
    calls = role == "assistant" and message.get("tool_calls")
    if "content" not in message and not calls:
        raise ValueError(f"message {number} has no content")
    if role == "assistant" and not calls and not str(content or "").strip():
        raise Nothing(f"message {number}, of the assistant, is empty")
    if not isinstance(content, str) and not (calls and content is None):
        raise ValueError(f"message {number} has no content")
    return {**without_flags(message), "content": content}


def _joined(parts: list[Any], number: int) -> str:
    """The text of content in parts, as the OpenAI format has it."""
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"message {number} has a part that is not text")
    return "".join(map(str, texts))


def shown(value: Any) -> str:
    """A value for a message: a text in quotes, None, or the kind of another value."""
    if isinstance(value, str):
        return repr(value[:40])
    return "None" if value is None else f"a {type(value).__name__}"
