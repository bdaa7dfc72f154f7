# SPDX-License-Identifier: Apache-2.0
"""The tools of a record and the calls of a message. What no template can show is refused."""

from __future__ import annotations

import json
from typing import Any

_A_TOOL = 'a tool is {"type": "function", "function": {"name": …, "parameters": {…}}}'
_A_CALL = 'a call is {"type": "function", "function": {"name": …, "arguments": {…}}}'


def read_tools(value: Any) -> list[Any] | None:
    """The tools of a record. A text is their JSON, for a table cannot hold them otherwise.

    Raises ValueError. A tool that has a type of its own is the template's business.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            raise ValueError("tools is not a list, nor a text that is the JSON of one") from None
    if value is not None and not isinstance(value, list):
        raise ValueError("tools is not a list")
    for number, tool in enumerate(value or [], 1):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not function:
            raise ValueError(f"tool {number} is not an object with a function: {_A_TOOL}")
        is_function = "function" in tool or tool.get("type", "function") == "function"
        if is_function and not _is_name(function.get("name")):
            raise ValueError(f"tool {number} has no name: {_A_TOOL}")
        if not isinstance(function.get("parameters") or {}, dict):
            raise ValueError(f"tool {number} has parameters that are no object: {_A_TOOL}")
    return value


def check_calls(message: dict[str, Any], number: int) -> bool:
    """Whether a message has tool calls. Raises ValueError if it may not have them."""
    calls = message.get("tool_calls")
    if calls in (None, "", [], {}):
        return False
    if message.get("role") != "assistant":
        raise ValueError(f"message {number} has tool calls, and is not of the assistant")
    if not isinstance(calls, list):
        raise ValueError(f"message {number} has tool_calls that are no list: {_A_CALL}")
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not _is_name(function.get("name")):
            raise ValueError(f"message {number} has a tool call without a name: {_A_CALL}")
    return True


def sharegpt_calls(value: Any, number: int) -> list[dict[str, Any]]:
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


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
