# SPDX-License-Identifier: Apache-2.0
"""Each key of the public formats of other tools: read as it is meant, refused, or told as unused.

The formats are those of the documents that docs/data.md names. A tool's keys stand together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gsqc.data import DataOptions, load_split
from gsqc.data.examples import Chat, Prompted
from gsqc.data.problems import Nothing
from gsqc.data.records import RecordReader
from gsqc.errors import DataError
from tests.data.small_data import make_tokenizer

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "r"}
CHAT: dict[str, Any] = {"messages": [USER, ASSISTANT]}
PAIR = {"prompt": "p", "completion": "c"}
ALPACA = {"instruction": "i", "output": "o"}


def chat(*messages: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"messages": list(messages), **keys}


def answer(**keys: Any) -> dict[str, Any]:
    """A chat of two rounds, whose first answer has the keys."""
    return chat(USER, {**ASSISTANT, **keys}, USER, ASSISTANT)


def parts(*given: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", **part} for part in given], **keys}


PLAIN = Chat([USER, ASSISTANT])
FIRST_NOT = Chat([USER, ASSISTANT] * 2, None, (False, False, False, True))
ALL = Chat([USER, ASSISTANT] * 2, None, (False, True, False, True))
LEARNED = Chat([USER, ASSISTANT], None, (False, True))
WITH_SYSTEM = Chat([SYSTEM, USER, ASSISTANT])


@pytest.mark.parametrize(
    ("record", "example"),
    [
        # OpenAI
        (answer(weight=0), FIRST_NOT),
        (answer(weight=1), ALL),
        (
            chat(USER, CALLING, RESULT, ASSISTANT, tools=[TOOL], parallel_tool_calls=False),
            Chat([USER, CALLING, RESULT, ASSISTANT], [TOOL]),
        ),
        (answer(refusal=None, audio=None, function_call=None, annotations=[]), None),
        # Mistral
        (chat(USER, ASSISTANT, system_prompt="s"), WITH_SYSTEM),
        ({**CHAT, "only_last": False}, PLAIN),
        # Fireworks
        ({**CHAT, "weight": 1.0}, PLAIN),
        # axolotl
        (answer(train=False), FIRST_NOT),
        (answer(training=True), ALL),
        (chat(USER, parts({"text": "a", "train": True})), PLAIN),
        (
            chat(USER, parts({"text": "a", "weight": 0}, train=False), USER, ASSISTANT),
            FIRST_NOT,
        ),
        ({"conversations": [USER, ASSISTANT], "system": "s"}, WITH_SYSTEM),
        # Home-LLM
        (answer(train_on_turn=False), FIRST_NOT),
        # SlimOrca
        (
            {"conversations": [{**HUMAN, "weight": 0.0}, {**GPT, "weight": 1.0}]},
            LEARNED,
        ),
        # ms-swift
        (answer(loss=False), FIRST_NOT),
        (answer(loss=True, loss_scale=1.0), ALL),
        (answer(loss_scale=0.0), FIRST_NOT),
        (chat({**USER, "loss": True}, ASSISTANT), PLAIN),
        ({**CHAT, "channel": "x", "tools": json.dumps([TOOL])}, Chat([USER, ASSISTANT], [TOOL])),
        # LLaMA-Factory
        ({**ALPACA, "system": "", "history": []}, None),
        ({"conversations": [HUMAN, GPT], "system": "s", "tools": ""}, WITH_SYSTEM),
        (
            {"conversations": [{"from": "system", "value": "s"}, HUMAN, GPT], "system": "s"},
            WITH_SYSTEM,
        ),
        (answer(loss_weight=0.0), FIRST_NOT),
        (chat(USER, parts({"value": "a"}, loss_weight=1.0)), LEARNED),
        # torchtune
        (answer(masked=True), FIRST_NOT),
        (chat(USER, parts({"content": "a"})), PLAIN),
        # TRL, mlx-lm
        ({"prompt": [USER], "completion": [ASSISTANT], "tools": [TOOL]}, None),
        ({**PAIR, "tools": None}, Prompted("p", "c")),
    ],
)  # fmt: skip
def test_what_is_honoured(record: dict[str, Any], example: Any) -> None:
    read = RecordReader().read(record)
    assert example is None or read == example


TRUE = "keep the records where it is true"
AS_CHAT = r'write \{"messages": \[\{"role": "system", "content": …\}, \{"role": "user"'


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        # OpenAI
        ({**CHAT, "functions": [{"name": "f"}]}, 'functions is not .*write them as "tools"'),
        (answer(function_call={"name": "f"}), 'function_call is not .*write it as "tool_calls"'),
        (answer(refusal="No."), "refusal is not supported .write it as the content"),
        (answer(audio={"id": "x"}), "audio is not supported"),
        (
            {"input": CHAT, "preferred_output": [ASSISTANT], "non_preferred_output": [ASSISTANT]},
            "preferred_output is not supported",
        ),
        # Mistral
        ({**CHAT, "available_tools": [TOOL]}, "available_tools is not supported .name it tools"),
        ({**CHAT, "only_last": True}, "only_last is not supported .* weight 0"),
        ({**CHAT, "system_prompt": ["s"]}, "system_prompt is not a text"),
        # Fireworks
        ({**CHAT, "weight": 2.0}, "weight is not supported .all records count alike"),
        ({**PAIR, "weight": "0.5"}, "weight is not supported"),
        # axolotl
        (answer(train_detail=[{"begin_offset": 0, "train": False}]), "train_detail is not"),
        (answer(training_detail=[{"begin_offset": 0}]), "training_detail is not"),
        (chat({**USER, "train": True}, ASSISTANT), "is to be learned, and not of the assistant"),
        (
            chat(USER, parts({"text": "a", "train": False}, {"text": "b", "train": True})),
            "message 2 has a part with a flag of its own",
        ),
        (
            chat({**parts({"text": "q", "weight": 1}), "role": "user"}, ASSISTANT),
            "message 1 has a part with a flag of its own",
        ),
        (
            answer(reasoning_content=[{"type": "text", "text": "r", "train": False}]),
            "message 2 has reasoning_content that is not a text",
        ),
        ({"segments": [{"label": True, "text": "t"}]}, "segments is not supported"),
        ({"input_ids": [1], "labels": [-100]}, "labels is not supported"),
        # ms-swift
        (answer(loss_scale=2.0), "message 2 has loss_scale 2.0, gsqc takes 0 or 1"),
        ({**CHAT, "rejected_response": "r"}, "rejected_response is not supported"),
        ({**CHAT, "rejected_messages": [ASSISTANT]}, "rejected_messages is not supported"),
        ({**CHAT, "rejected_images": ["a.png"]}, "rejected_images is not supported"),
        ({**CHAT, "negative_messages": [[USER]]}, "negative_messages is not supported"),
        ({**CHAT, "label": False}, f"label is not supported .*{TRUE}"),
        ({**CHAT, "images": ["a.png"]}, "images is not supported"),
        ({**CHAT, "chat_template_kwargs": {"x": 1}}, "chat_template_kwargs is not supported"),
        ({**ALPACA, "system": "s"}, f"system is not supported .*{AS_CHAT}"),
        ({**PAIR, "system_prompt": "s"}, f"system_prompt is not supported .*{AS_CHAT}"),
        # LLaMA-Factory
        ({**ALPACA, "history": [["a", "b"]]}, "history is not supported .* for each round"),
        ({**ALPACA, "tools": "[]x"}, r"tools is not supported .* \"tools\": \[…\]"),
        ({**ALPACA, "kto_tag": False}, f"kto_tag is not supported .*{TRUE}"),
        ({"instruction": "i", "chosen": "c", "rejected": "r"}, "chosen is not supported"),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": GPT}, "chosen is not supported"),
        ({**ALPACA, "videos": ["a.mp4"]}, "videos is not supported"),
        ({"chosen_messages": [USER], "rejected_messages": [USER]}, "chosen_messages is not"),
        (answer(loss_weight=0.5), "loss_weight 0.5, gsqc takes 0 or 1"),
        # TRL
        ({"chosen": "a", "rejected": "b"}, "chosen is not supported"),
        ({**PAIR, "label": True}, "label is not supported"),
        ({"prompt": "p", "completions": ["c"], "labels": [True]}, "completions is not supported"),
        ({**CHAT, "assistant_masks": [1]}, "assistant_masks is not supported"),
        ({**PAIR, "completion_mask": [1]}, "completion_mask is not supported"),
        ({"text": "t", "completion_mask": [1]}, "completion_mask is not supported"),
        ({"prompt": [USER], "completion": [ASSISTANT], "image": "a"}, "image is not supported"),
        # mlx-lm
        ({**PAIR, "tools": [TOOL]}, "tools is not supported"),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        RecordReader().read(record)
    assert not isinstance(error.value, Nothing)


def test_a_record_of_weight_0_is_left_out() -> None:
    """Fireworks: such a sample is effectively ignored during training."""
    for record in ({**CHAT, "weight": 0}, {**PAIR, "weight": 0.0}, {**PAIR, "weight": "0"}):
        with pytest.raises(Nothing, match="the record's weight is 0"):
            RecordReader().read(record)


TEXT = {"text": "t"}


@pytest.mark.parametrize(
    ("record", "beside"),
    [
        # A text is learned as a whole, whatever stands beside it.
        (TEXT, {"label": True, "weight": 2.5, "image": "https://a/b.png", "id": 1}),
        (TEXT, {"labels": [1, 3], "segments": [{"start": 0}], "history": "long"}),
        (TEXT, {"system": "Linux", "documents": 3, "rejected": False, "tools": ["hammer"]}),
        (PAIR, {"label": "animals", "labels": ["a"], "weight": "70 kg", "images": []}),
        (PAIR, {"chosen": True, "rejected": 0, "segments": [1], "documents": ["d"]}),
        (PAIR, {"label": 3, "loss_weight": 1, "video": False, "system": " "}),
        (ALPACA, {"label": "", "text": "t", "only_last": True, "functions": 2}),
        (CHAT, {"label": 1, "source": "x", "images": None, "channel": "c", "margin": 0.2}),
    ],
)
def test_harmless_columns_are_told_and_not_refused(
    record: dict[str, Any], beside: dict[str, Any]
) -> None:
    reader = RecordReader()
    assert reader.read({**record, **beside}) == RecordReader().read(record)
    assert set(reader.unused) == set(beside)


@pytest.mark.parametrize(
    ("column", "value"), [("label", False), ("weight", 0.5), ("tools", "[]x"), ("chosen", "c")]
)
def test_columns_of_tables_are_refused_as_keys_are(tmp_path: Path, column: str, value: Any) -> None:
    """A .parquet file's columns are chosen before its rows are read, and a .csv file has texts."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    table = {"prompt": ["p"], "completion": ["c"], column: [value]}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(f"prompt,completion,{column}\np,c,{value}\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(DataError, match=f"the key {column} is not supported"):
            load_split(DataOptions((tmp_path / name,)), make_tokenizer(), 16)
