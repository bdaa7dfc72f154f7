# SPDX-License-Identifier: Apache-2.0
"""Keys of other tools are honoured or refused by name, and nothing to learn is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gsqc.data import DataOptions, load_split
from gsqc.data.examples import Chat, Prompted
from gsqc.data.problems import Nothing
from gsqc.data.records import RecordReader
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from tests.data.small_data import inputs, jsonl, make_tokenizer

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
SYSTEM = {"role": "system", "content": "s"}


def both(key: str, bad: Any, good: Any) -> dict[str, Any]:
    return {"messages": [USER, {**ASSISTANT, key: bad}, USER, {**ASSISTANT, key: good}]}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.mark.parametrize(
    "record",
    [
        both("weight", 0, 1),
        both("weight", 0, None),
        both("weight", 0.0, 1.0),
        both("train", False, True),
        both("training", False, True),
        both("train_on_turn", False, True),
        both("loss", False, True),
        both("masked", True, False),
        {"conversations": [HUMAN, {**GPT, "weight": 0}, HUMAN, {**GPT, "weight": 1}]},
        {"conversations": [HUMAN, {**GPT, "train": False}, {**HUMAN, "train": False}, GPT]},
        {"prompt": [USER, ASSISTANT], "completion": [USER, ASSISTANT]},
    ],
)
def test_turns_that_are_not_learned(record: dict[str, Any]) -> None:
    assert RecordReader().read(record) == Chat(
        [USER, ASSISTANT] * 2, None, (False, False, False, True)
    )


@pytest.mark.parametrize(
    ("record", "example"),
    [
        ({"system": "s", "conversations": [HUMAN, GPT]}, Chat([SYSTEM, USER, ASSISTANT])),
        ({"system": "s", "messages": [USER, ASSISTANT]}, Chat([SYSTEM, USER, ASSISTANT])),
        ({"system": "", "conversations": [HUMAN, GPT]}, Chat([USER, ASSISTANT])),
        (
            {"conversations": [HUMAN, GPT], "tools": json.dumps([{"name": "f"}])},
            Chat([USER, ASSISTANT], [{"name": "f"}]),
        ),
        (
            {
                "conversations": [
                    HUMAN,
                    {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                    {"from": "observation", "value": "2"},
                    GPT,
                ]
            },
            Chat(
                [
                    USER,
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
                        ],
                    },
                    {"role": "tool", "content": "2"},
                    ASSISTANT,
                ]
            ),
        ),
        ({"prompt": "p", "completion": "c", "label": "animals"}, Prompted("p", "c")),
        ({"prompt": "p", "completion": "c", "images": [], "weight": 1}, Prompted("p", "c")),
    ],
)
def test_what_is_honoured(record: dict[str, Any], example: Any) -> None:
    assert RecordReader().read(record) == example


PAIR = {"prompt": "p", "completion": "c"}
ALPACA = {"instruction": "i", "output": "o"}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "the key chosen is not supported"),
        ({**PAIR, "rejected": "r"}, "the key rejected is not supported"),
        ({**PAIR, "label": False}, "the key label is not supported"),
        ({**PAIR, "weight": 0.5}, "the key weight is not supported"),
        ({**PAIR, "images": ["a.png"]}, "the key images is not supported"),
        ({**PAIR, "completion_mask": [1]}, "the key completion_mask is not supported"),
        ({**ALPACA, "history": [["a", "b"]]}, "the key history is not supported"),
        ({**ALPACA, "system": "s"}, "the key system is not supported"),
        ({"messages": [USER, ASSISTANT], "functions": [1]}, "the key functions is not supported"),
        (
            {"messages": [USER, ASSISTANT], "chat_template_kwargs": {"a": 1}},
            "the key chat_template_kwargs is not supported",
        ),
        (
            {"messages": [USER, {**ASSISTANT, "function_call": {"name": "f"}}]},
            "the key function_call is not supported",
        ),
        (both("weight", 0.5, 1), "message 2 has weight 0.5, gsqc takes 0 or 1"),
        (both("train", "no", True), "message 2 has train no, gsqc takes 0 or 1"),
        (
            {"messages": [USER, {**ASSISTANT, "weight": 0, "train": True}]},
            "message 2 has flags that differ",
        ),
        (
            {"messages": [{**USER, "weight": 1}, ASSISTANT]},
            "message 1 is to be learned, and not of the assistant",
        ),
        (
            {"system": "t", "messages": [SYSTEM, USER, ASSISTANT]},
            "a system and another first message of the system",
        ),
        ({"system": ["s"], "messages": [USER, ASSISTANT]}, "system is not a text"),
        ({"conversations": [HUMAN, {"from": "function_call", "value": "f"}]}, "turn 2 is no JSON"),
        ({"prompt": [USER], "completion": "c"}, "completion is not a list of objects"),
    ],
)
def test_what_is_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        RecordReader().read(record)
    assert not isinstance(error.value, Nothing)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "p", "completion": " "},
        {"prompt": "p", "completion": None},
        {**ALPACA, "output": ""},
        {"text": "\n"},
        {"messages": [USER]},
        {"messages": [USER, {**ASSISTANT, "content": ""}]},
        {"messages": [USER, {**ASSISTANT, "weight": 0}]},
        {"conversations": [HUMAN, {"from": "gpt", "value": None}]},
    ],
)
def test_nothing_to_learn(record: dict[str, Any]) -> None:
    with pytest.raises(Nothing):
        RecordReader().read(record)


def test_an_empty_completion_is_left_out_and_told(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {**PAIR, "id": 1, "source": "x"},
        {**PAIR, "completion": "", "id": 2},
        {**PAIR, "completion": None},
    )
    (tmp_path / "b.jsonl").write_text('{"prompt": "p", "completion": ""}')
    train, _ = load_split(DataOptions((path,)), tokenizer, 16)
    assert [inputs(tokenizer, s) for s in train.sequences] == ["p\nc<end>"]
    assert train.report() == (
        "2 records with nothing to learn were left out "
        "(first a.jsonl:2: the completion is empty); keys not used: id, source"
    )
    assert train.unused_keys == {"id": 2, "source": 1}
    with pytest.raises(DataError, match=r"a.jsonl:2: the completion is empty; a.jsonl:3"):
        load_split(DataOptions((path,), strict=True), tokenizer, 16)
    with pytest.raises(DataError, match=r"no record has anything to learn \(b.jsonl:1"):
        load_split(DataOptions((tmp_path / "b.jsonl",)), tokenizer, 16)


def test_control_tokens_in_the_text_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The byte tokenizer has one control token, <end>."""
    path = jsonl(tmp_path / "a.jsonl", PAIR, {"prompt": "<end>a<end>", "completion": "<en"})
    train, _ = load_split(DataOptions((path,)), tokenizer, 16)
    assert (train.control_tokens, train.control_records) == ({"<end>": 2}, 1)
