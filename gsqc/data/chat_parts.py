# SPDX-License-Identifier: Apache-2.0
"""Which parts of a chat a template drops.

A part of the program chat_process, which imports nothing of gsqc but its own files.

One rendering has a mark in every part: contents, reasoning, tool calls. A part whose mark is
missing is changed alone. If the text stays the same, the template drops the part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gsqc.data.chat_template import PART, ChatError, Messages, reasoning_of, unmarked

_TRIED = 2
"""Parts of a kind that are changed alone."""
_THINK_END = "</think>"
_SPLIT = "make each answer with reasoning the last turn of a chat, or give the earlier ones no loss"


class RenderParts(Protocol):
    """A template."""

    def __call__(self, messages: Messages, tools: list[Any] | None) -> str:
        """The text. Raises ChatError."""


@dataclass(frozen=True)
class _Part:
    """A part of the message `number`: its content, its reasoning, or one of its tool calls."""

    kind: str
    number: int
    call: int = 0


def dropped_parts(
    render: RenderParts, messages: Messages, tools: list[Any] | None, full: str, learned: list[int]
) -> str | None:
    """What the template drops, as a sentence. None if it drops nothing.

    full     the text, without marks
    learned  the messages that have a loss. Reasoning of others may be dropped.
    """
    said = []
    if tools and _text(render, messages, None) == full:
        said.append("the tools")
    parts = [
        part for part in _parts(messages) if part.kind != "reasoning" or part.number in learned
    ]
    kept = _kept(render, messages, tools, parts)
    missing: dict[tuple[str, str], list[_Part]] = {}
    for number, part in enumerate(parts):
        if number not in kept:
            missing.setdefault((messages[part.number]["role"], part.kind), []).append(part)
    is_split = False
    for (role, kind), group in missing.items():
        dropped = (p for p in group[:_TRIED] if _is_dropped(render, messages, tools, p, full))
        for part in list(dropped)[:1]:
            what = f"{kind} of" if role == "assistant" else f"{kind} of the {role},"
            said.append(f"the {what} message {part.number + 1}")
            if kind == "reasoning" and part.number + 1 < len(messages):
                # Would it be kept if the chat ended with it?
                is_split |= bool(_kept(render, messages[: part.number + 1], tools, [part]))
    if not said:
        return None
    hint = f": {_SPLIT}" if is_split else ""
    return f"the chat template drops {' and '.join(said)} (the text is the same without){hint}"


def _text(render: RenderParts, messages: Messages, tools: list[Any] | None) -> str | None:
    try:
        return unmarked(render(messages, tools))
    except ChatError:
        return None


def _parts(messages: Messages) -> Iterator[_Part]:
    for number, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, str) and content.rpartition(_THINK_END)[2].strip():
            yield _Part("content", number)
        if message["role"] == "assistant":
            if _thought(message):
                yield _Part("reasoning", number)
            for call in range(len(_calls(message))):
                yield _Part("tool calls", number, call)


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls with a name, each as the object that holds the name."""
    calls = message.get("tool_calls")
    given = [c.get("function", c) for c in calls if isinstance(c, dict)] if calls else []
    return [call for call in given if isinstance(call, dict) and "name" in call]


def _thought(message: dict[str, Any]) -> str:
    """A message's reasoning, from a name of its own or before </think>."""
    reasoning, content = reasoning_of(message), message.get("content")
    if isinstance(reasoning, str) and reasoning.strip():
        return reasoning
    before, end, _ = content.partition(_THINK_END) if isinstance(content, str) else ("", "", "")
    return before.replace("<think>", "").strip() if end else ""


def _marked(message: dict[str, Any], part: _Part, mark: str) -> dict[str, Any]:
    """The message with a mark in one of its parts."""
    content = message.get("content")
    if part.kind == "content":
        return {**message, "content": f"{content}{mark}"}
    if part.kind == "tool calls":
        calls = list(message["tool_calls"])
        named = [k for k, c in enumerate(calls) if _calls({"tool_calls": [c]})]
        given = calls[named[part.call]]
        inner = given.get("function", given)
        inner = {**inner, "name": f"{inner['name']}{mark}"}
        calls[named[part.call]] = {**given, "function": inner} if "function" in given else inner
        return {**message, "tool_calls": calls}
    reasoning = reasoning_of(message)
    if isinstance(reasoning, str) and reasoning.strip():
        names = [name for name, value in message.items() if value == reasoning]
        return {**message, **dict.fromkeys(names, f"{reasoning}{mark}")}
    return {**message, "content": str(content).replace(_THINK_END, f"{mark}{_THINK_END}", 1)}


def _kept(
    render: RenderParts, messages: Messages, tools: list[Any] | None, parts: list[_Part]
) -> set[int]:
    """The numbers of the parts whose marks are in the text."""
    changed = list(messages)
    for number, part in enumerate(parts):
        changed[part.number] = _marked(changed[part.number], part, f"{PART}{number}{PART}")
    text = _text(render, changed, tools) or ""
    return {int(found) for found in re.findall(f"{PART}(\\d+){PART}", text)}


def _is_dropped(
    render: RenderParts, messages: Messages, tools: list[Any] | None, part: _Part, full: str
) -> bool:
    """Whether the text is the same with another part."""
    changed = list(messages)
    changed[part.number] = _marked(messages[part.number], part, "?")
    return _text(render, changed, tools) == full
