# SPDX-License-Identifier: Apache-2.0
"""Tools and tool calls are read as they are meant, and what no template can show is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gsqc.data.examples import Chat
from gsqc.data.records import RecordReader

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
RESULT = {"role": "tool", "content": "r"}


def with_tools(tools: Any) -> dict[str, Any]:
    return {"messages": [USER, ASSISTANT], "tools": tools}


def with_calls(calls: Any) -> dict[str, Any]:
    calling = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"messages": [USER, calling, RESULT, ASSISTANT], "tools": [TOOL]}


@pytest.mark.parametrize(
    ("given", "tools"),
    [
        ([TOOL], [TOOL]),
        (json.dumps([TOOL]), [TOOL]),
        ([FUNCTION], [FUNCTION]),  # LLaMA-Factory's
        ([{"name": "f"}, {"type": "web_search"}], [{"name": "f"}, {"type": "web_search"}]),
        ([], []),
        ("[]", []),
        (" ", None),
        (None, None),
    ],
)
def test_tools(given: Any, tools: Any) -> None:
    assert RecordReader().read(with_tools(given)) == Chat([USER, ASSISTANT], tools)


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("[{", "tools is not a list, nor a text that is the JSON of one"),
        (json.dumps(TOOL), "tools is not a list"),
        (TOOL, "tools is not a list"),
        ([None], "tool 1 is not an object with a function"),
        ([TOOL, "f"], "tool 2 is not an object with a function"),
        ([[TOOL]], "tool 1 is not an object with a function"),
        ([{}], "tool 1 is not an object with a function"),
        ([{**TOOL, "function": "f"}], "tool 1 is not an object with a function"),
        ([{"parameters": {}}], "tool 1 has no name"),
        ([{**TOOL, "function": {**FUNCTION, "name": 1}}], "tool 1 has no name"),
        ([{**TOOL, "function": {**FUNCTION, "name": " "}}], "tool 1 has no name"),
        ([{**TOOL, "function": {"name": "f", "parameters": "{}"}}], "tool 1 has parameters that"),
    ],
)
def test_tools_that_are_none(tools: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RecordReader().read(with_tools(tools))


@pytest.mark.parametrize(
    "calls",
    [
        [CALL],
        [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
        [{"name": "f", "arguments": {}}],
        [CALL, CALL],
    ],
)
def test_calls_stay_as_they_are(calls: Any) -> None:
    """What a template makes of them is what transformers would."""
    read = RecordReader().read(with_calls(calls))
    assert isinstance(read, Chat)
    assert read.messages[1]["tool_calls"] == calls


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (with_calls("f()"), "message 2 has tool_calls that are no list: a call is"),
        (with_calls(CALL), "message 2 has tool_calls that are no list: a call is"),
        (with_calls(["f"]), "message 2 has a tool call without a name: a call is"),
        (with_calls([{"function": {"arguments": {}}}]), "message 2 has a tool call without a name"),
        (with_calls([{"function": "f"}]), "message 2 has a tool call without a name"),
        (
            {"messages": [{**USER, "tool_calls": [CALL]}, ASSISTANT]},
            "message 1 has tool calls, and is not of the assistant",
        ),
    ],
)
def test_calls_that_are_none(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RecordReader().read(record)


def test_a_result_without_a_call_is_shown_and_has_no_loss() -> None:
    """A chat may have been cut. A template shows it, as in transformers."""
    record = {"messages": [RESULT, USER, ASSISTANT], "tools": [TOOL]}
    assert RecordReader().read(record) == Chat([RESULT, USER, ASSISTANT], [TOOL])
