# SPDX-License-Identifier: Apache-2.0
"""Each shape of record is read as what it is, and everything else has a reason."""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.data.examples import Chat, Document, Example, Prompted
from gsqc.data.records import RecordReader

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("record", "example"),
    [
        ({"prompt": "", "completion": "c", "id": 3}, Prompted("", "c")),
        ({"text": "t"}, Document("t")),
        (
            {"messages": [USER, ASSISTANT], "prompt": "p", "completion": "c"},
            Chat([USER, ASSISTANT]),
        ),
        (
            {"messages": [USER, ASSISTANT], "tools": [{"name": "f"}]},
            Chat([USER, ASSISTANT], [{"name": "f"}]),
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            Chat([USER, ASSISTANT]),
        ),
        ({"conversations": [USER, ASSISTANT]}, Chat([USER, ASSISTANT])),
        (
            {"messages": [{**USER, "content": [{"type": "text", "text": "q"}]}, ASSISTANT]},
            Chat([USER, ASSISTANT]),
        ),
    ],
)
def test_shapes(record: dict[str, Any], example: Example) -> None:
    assert RecordReader().read(record) == example


def test_alpaca_is_put_into_alpacas_prompt() -> None:
    """The two texts of stanford_alpaca/train.py, without the newline that follows every prompt."""
    without = RecordReader().read({"instruction": "Add", "input": "", "output": "3", "text": "x"})
    assert without == Prompted(
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd\n\n### Response:",
        "3",
        "alpaca",
    )
    given = RecordReader().read({"instruction": "Add {}", "input": "1 2", "output": "3"})
    assert given == Prompted(
        "Below is an instruction that describes a task, "
        "paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd {}\n\n### Input:\n1 2\n\n### Response:",
        "3",
        "alpaca",
    )
    assert RecordReader().read({"instruction": "Add", "output": "3"}) == without


def nested(depth: int) -> list[Any]:
    """Lists inside each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


DEEP = {"name": "f", "parameters": {"x": nested(100_000)}}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "not a JSON object"),
        ({}, "none of messages"),
        ({"question": "a"}, "none of messages"),
        ({"messages": []}, "not a list of objects"),
        ({"messages": "hi"}, "not a list of objects"),
        ({"messages": ["hi"]}, "not a list of objects"),
        ({"messages": [USER]}, "no turn of the assistant"),
        (
            {"messages": [USER, {"role": "bot", "content": "a"}]},
            "message 2 has the role 'bot', not one of system",
        ),
        ({"messages": [USER, {"content": "a"}]}, "message 2 has no role .one of system"),
        ({"messages": [{"role": [], "content": "a"}]}, "message 1 has the role a list, not one"),
        ({"messages": [USER, {"role": "assistant"}]}, "message 2 has no content"),
        (
            {"messages": [{"role": "user", "content": 3}, ASSISTANT]},
            "message 1 has content that is an int, not a text",
        ),
        ({"messages": [{"role": "user", "content": None}, ASSISTANT]}, "message 1 has no content"),
        (
            {"messages": [USER, {"role": "assistant", "content": " "}]},
            "message 2, of the assistant, is empty",
        ),
        (
            {"messages": [{**USER, "content": [{"type": "image_url"}]}, ASSISTANT]},
            "part that is not text",
        ),
        ({"messages": [{**USER, "content": "\ud800"}, ASSISTANT]}, "surrogate"),
        ({"messages": [USER, ASSISTANT], "tools": "f"}, "tools is not a list"),
        ({"conversations": [{"from": "bot", "value": "a"}]}, "turn 1 is from 'bot'"),
        ({"conversations": [{"from": ["a"], "value": "a"}]}, "turn 1 is from a list, not one"),
        ({"conversations": [{"from": {"a": 1}, "value": "a"}]}, "turn 1 is from a dict, not one"),
        ({"conversations": [{"from": "\udc80" * 99, "value": "a"}]}, "turn 1 is from"),
        ({"conversations": [{}]}, "turn 1 is from None"),
        ({"conversations": 3}, "not a list of objects"),
        ({"messages": [USER, {**ASSISTANT, "more": nested(70)}]}, "nested too deeply"),
        ({"messages": [USER, ASSISTANT], "tools": [DEEP]}, "nested too deeply"),
        ({"messages": [USER, {**ASSISTANT, "more": b"a"}]}, "JSON cannot hold"),
        ({"instruction": "a"}, "no output"),
        ({"output": "a"}, "no instruction"),
        ({"instruction": "a", "input": 3, "output": "b"}, "input is not a text"),
        ({"text": " "}, "the text is empty"),
        ({"text": None}, "the text is empty"),
    ],
)
def test_reasons(record: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RecordReader().read(record)


def test_a_file_has_one_shape_that_of_its_first_whole_record() -> None:
    reader = RecordReader()
    with pytest.raises(ValueError, match="no completion"):
        reader.read({"prompt": "a"})
    reader.read({"text": "a"})
    with pytest.raises(ValueError, match="a record of messages in a file of text"):
        reader.read({"messages": [USER, ASSISTANT]})
