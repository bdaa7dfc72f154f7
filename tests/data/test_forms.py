# SPDX-License-Identifier: Apache-2.0
"""Chats, documents, directories and saved data sets become tokens, with the right ones counted."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from gsqc.data import chat_prompt, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from tests.data.small_data import counted, inputs, jsonl, make_tokenizer
from tests.data.templates import ALTERNATING, CHATML, SWALLOWING

LENGTH = 160


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(chat_template=CHATML.replace("<|im_end|>", "<end>"))


CHAT = {
    "messages": [
        {"role": r, "content": c} for r, c in (("user", "Hü"), ("assistant", "Ja🙂"), ("user", "?"))
    ]
}


def test_a_chat_counts_on_the_assistants_turns(tmp_path: Path, tokenizer: Tokenizer) -> None:
    CHAT["messages"][3:] = [{"role": "assistant", "content": "Nö"}]
    data = load_data(jsonl(tmp_path / "a.jsonl", CHAT), tokenizer, LENGTH)
    (sequence,) = data.sequences
    assert counted(tokenizer, sequence) == "Ja🙂<end>Nö<end>"
    assert inputs(tokenizer, sequence).startswith(
        "<|im_start|>system\nYou help.<end>\n<|im_start|>user\nHü<end>\n"
    )
    assert (data.shapes, data.report()) == ({"chat": 1}, None)
    all_of_it = load_data(tmp_path / "a.jsonl", tokenizer, LENGTH, mask_prompt=False).sequences[0]
    np.testing.assert_array_equal(all_of_it.tokens[:100], sequence.tokens[:100])
    assert counted(tokenizer, all_of_it) == inputs(tokenizer, sequence)[1:] + "\n"


def test_a_chat_that_is_cut_keeps_its_beginning(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "a.jsonl", CHAT)
    data = load_data(path, tokenizer, 80)
    assert counted(tokenizer, data.sequences[0]) == "Ja🙂<end>"  # the second turn is lost
    assert (data.truncated_records, data.skipped_records) == (1, 0)
    with pytest.raises(DataError, match="nothing that counts fits into 40 tokens"):
        load_data(path, tokenizer, 40)


def test_generation_begins_as_training_does(tmp_path: Path, tokenizer: Tokenizer) -> None:
    sequence = load_data(jsonl(tmp_path / "a.jsonl", CHAT), tokenizer, LENGTH).sequences[0]
    prompt = chat_prompt(tokenizer, "Hü")
    assert sequence.tokens[: len(prompt)].tolist() == prompt
    assert sequence.weights[len(prompt) - 1] > 0
    assert sequence.weights[: len(prompt) - 1].sum() == 0
    with pytest.raises(DataError, match="alternate"):
        chat_prompt(make_tokenizer(chat_template=ALTERNATING), "a", "a system message")


def test_a_chat_the_template_refuses_is_named_by_line(tmp_path: Path) -> None:
    chat = {"messages": CHAT["messages"][:2]}
    with pytest.raises(DataError, match=r"a.jsonl:1: .*does not show where message 2.*a.jsonl:2"):
        load_data(
            jsonl(tmp_path / "a.jsonl", chat, chat),
            make_tokenizer(chat_template=SWALLOWING),
            LENGTH,
        )
    with pytest.raises(DataError, match="no chat template"):
        load_data(tmp_path / "a.jsonl", make_tokenizer(), LENGTH)


def test_a_tokenizers_beginning_stands_before_prompts_and_documents(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(
        bos=True, chat_template="{{ messages[0].content }}{{ messages[1].content }}"
    )
    records = {"prompt": "p", "completion": "c"}, {"prompt": "", "completion": "c"}
    data = load_data(jsonl(tmp_path / "a.jsonl", *records), tokenizer, LENGTH)
    assert [inputs(tokenizer, s) for s in data.sequences] == ["Ap\nc<end>", "Ac<end>"]
    assert [counted(tokenizer, s) for s in data.sequences] == ["c<end>", "c<end>"]
    (tmp_path / "a.md").write_text("text")
    (sequence,) = load_data(tmp_path / "a.md", tokenizer, LENGTH).sequences
    assert (inputs(tokenizer, sequence), counted(tokenizer, sequence)) == (
        "Atext<end>",
        "text<end>",
    )
    chat = load_data(
        jsonl(tmp_path / "a.jsonl", {"messages": CHAT["messages"][:2]}), tokenizer, LENGTH
    )
    assert inputs(tokenizer, chat.sequences[0]) == "HüJa🙂"  # a template writes its own


def test_documents_are_cut_without_a_gap_and_end(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = ["x" * 400, "y"]
    path = jsonl(tmp_path / "a.jsonl", *({"text": t} for t in texts))
    data = load_data(path, tokenizer, LENGTH)
    assert "".join(counted(tokenizer, s) for s in data.sequences) == "x" * 399 + "<end><end>"
    assert (len(data.sequences), data.record_lengths, data.report()) == (4, [401, 2], None)


def test_a_long_text_is_cut_at_line_ends_before_it_is_tokenised(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    text = "0123456789abcde\n" * 70_000 + "z" * (1 << 20) + "zz"
    (tmp_path / "a.txt").write_text(text)
    data = load_data(tmp_path / "a.txt", tokenizer, 4096)
    assert "".join(counted(tokenizer, s) for s in data.sequences) == text[1:] + "<end>"


def test_a_directory_and_several_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "b.md").write_text("bb")
    (tmp_path / "notes" / "a.txt").write_text("aa")
    (tmp_path / "x.json").write_text(json.dumps([{"prompt": "p", "completion": "c"}]))
    data = load_data([tmp_path / "x.json", tmp_path / "notes"], tokenizer, LENGTH)
    assert [inputs(tokenizer, s) for s in data.sequences] == ["p\nc<end>", "aa<end>", "bb<end>"]
    assert data.shapes == {"prompt": 1, "document": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"prompt": "a", "completion": "b"}', "no array of records"),
        ('[{"prompt": "a", "completion": "b"},\n{"prompt": ]', "a.json:2: not JSON"),
        (
            '[{"prompt": "a", "completion": "b"}, {"prompt": "a"}]',
            "a.json record 2: the record has no completion",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_json_file_that_is_no_array_of_records(
    tmp_path: Path, tokenizer: Tokenizer, text: str, reason: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=reason):
        load_data(tmp_path / "a.json", tokenizer, LENGTH)


def test_a_dataset_on_disk(tmp_path: Path, tokenizer: Tokenizer) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"p{k}", "completion": f"c{k}", "source": None} for k in range(3)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "a"))
    data = load_data(tmp_path / "a", tokenizer, LENGTH)
    assert [inputs(tokenizer, s) for s in data.sequences] == [
        "p0\nc0<end>",
        "p1\nc1<end>",
        "p2\nc2<end>",
    ]
    chats = datasets.Dataset.from_list([{"messages": CHAT["messages"][:2]}])
    datasets.DatasetDict(train=chats, test=chats).save_to_disk(str(tmp_path / "b"))
    assert (
        counted(tokenizer, load_data(tmp_path / "b", tokenizer, LENGTH).sequences[0]) == "Ja🙂<end>"
    )
    datasets.Dataset.from_list([{"question": "a"}]).save_to_disk(str(tmp_path / "c"))
    with pytest.raises(DataError, match="columns question"):
        load_data(tmp_path / "c", tokenizer, LENGTH)
    next((tmp_path / "a").glob("*.arrow")).write_bytes(b"damaged")
    with pytest.raises(DataError, match="datasets cannot read a"):
        load_data(tmp_path / "a", tokenizer, LENGTH)


def test_a_dataset_on_disk_without_the_package(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="package datasets, which is not installed") as error:
        load_data(tmp_path, tokenizer, LENGTH)
    assert "pip install datasets" in error.value.hint


def test_a_dataset_that_was_saved_in_a_format_of_its_own(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Rows would come as arrays."""
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([{"text": "a"}]).with_format("numpy")
    made.save_to_disk(str(tmp_path / "a"))
    assert len(load_data(tmp_path / "a", tokenizer, LENGTH).sequences) == 1


def test_a_dataset_of_other_values(tmp_path: Path, tokenizer: Tokenizer) -> None:
    datasets = pytest.importorskip("datasets")
    answer = {"role": "assistant", "content": "a", "when": datetime(2026, 1, 1)}
    for k, (row, reason) in enumerate(
        [
            ({"text": b"a"}, "text is not a text"),
            ({"prompt": [1], "completion": "a"}, "prompt is not a list of objects"),
            ({"messages": [answer]}, "JSON cannot hold"),
        ]
    ):
        datasets.Dataset.from_list([row]).save_to_disk(str(tmp_path / str(k)))
        with pytest.raises(DataError, match=reason):
            load_data(tmp_path / str(k), tokenizer, LENGTH)


def test_a_dataset_reads_plain_files_of_its_own(tmp_path: Path, tokenizer: Tokenizer) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"text": "a"}]).save_to_disk(str(tmp_path / "a"))
    state = tmp_path / "a" / "state.json"
    content = state.read_text()
    (file,) = (tmp_path / "a").glob("*.arrow")
    for bad in (
        content.replace(file.name, f"../a/{file.name}"),
        content.replace(file.name, "/dev/zero"),
        "[]",
        "[" * 100_000,
        json.dumps({"_data_files": [{"filename": 3}]}),
    ):
        state.write_text(bad)
        with pytest.raises(DataError, match="datasets cannot read a"):
            load_data(tmp_path / "a", tokenizer, LENGTH)
    state.write_text(content)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError, match=r"datasets cannot read a: .*it is a FIFO"):
        load_data(tmp_path / "a", tokenizer, LENGTH)
