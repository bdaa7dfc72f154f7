# SPDX-License-Identifier: Apache-2.0
"""Several processes make of a file what one makes of it, also of a file that is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gsqc.data import DataOptions, Dataset, block_reader, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from tests.data.small_data import make_tokenizer
from tests.data.test_token_cache import said

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOKENIZER = make_tokenizer(chat_template=TEMPLATE)
COUNT = 60


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that were started, of at most two. A file of some lines is large here."""
    processes: list[Any] = []

    class Noted(block_reader.BoundedProcess):
        def __init__(self, program: str, begin: dict[str, Any]) -> None:
            super().__init__(program, begin)
            processes.append(self)

    monkeypatch.setattr(block_reader, "BoundedProcess", Noted)
    monkeypatch.setattr(block_reader, "_LEAST_BYTES", 64)
    monkeypatch.setattr(block_reader, "_BLOCK_BYTES", 256)
    monkeypatch.setattr(block_reader, "default_threads", lambda: 2)
    return processes


def prompts() -> list[dict[str, Any]]:
    """Records of all lengths. Some have nothing to learn, keys beside, and control tokens."""
    records: list[dict[str, Any]] = [
        {"prompt": "p" * (k % 29), "completion": "é" * (k % 7)} for k in range(COUNT)
    ]
    records[20]["id"] = records[41]["other"] = 1
    records[33]["completion"] = "a <end> and <end>"
    return records


def chats() -> list[dict[str, Any]]:
    """Chats that share a system text and tools, of which some have several turns."""
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "é b"}]
    system = {"role": "system", "content": "s"}
    return [{"messages": [system, *turns * (1 + k % 3)]} for k in range(COUNT)]


def write(path: Path, records: list[dict[str, Any]], **changed: bytes) -> Path:
    """The records on lines. `changed` are lines that stand in the place of others: L40=b"…"."""
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    for name, line in changed.items():
        lines[int(name[1:])] = line
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def load(
    path: Path, length: int = 24, tokenizer: Tokenizer = TOKENIZER, **options: Any
) -> tuple[Dataset, Dataset | None]:
    return load_split(DataOptions((path,), **options), tokenizer, length)


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process from now on."""
    monkeypatch.setattr(block_reader, "default_threads", lambda: 1)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("records", "length"),
    [(prompts(), 12), (prompts(), 64), (chats(), 80)],
    ids=["cut", "prompts", "chats"],
)
def test_a_file_has_the_pieces_and_counts_that_one_process_makes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Any],
    name: str,
    records: list[dict[str, Any]],
    length: int,
) -> None:
    path = write(tmp_path / name, records, L7=b" \t", L11=b"")
    by_two = load(path, length, validation="20%")
    assert len(started) == 2
    assert not any(process.close.alive for process in started)
    alone(monkeypatch)
    assert said(load(path, length, validation="20%")) == said(by_two)
    assert len(started) == 2


def test_all_counts_were_there_to_compare(tmp_path: Path) -> None:
    """Those of the test above."""
    train, _ = load(write(tmp_path / "a.jsonl", prompts()), 12)
    assert train.first_empty == "a.jsonl:1: the completion is empty"
    assert (train.empty_records, train.control_tokens) == (9, {"<end>": 2})
    assert train.unused_keys == {"id": 1, "other": 1}
    assert train.truncated_records
    assert train.skipped_records
    train, _ = load(write(tmp_path / "b.jsonl", chats()), 80)
    assert train.truncated_records
    assert train.shared.system == "s"


def test_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by two processes, by one, and by two."""
    for k, name in enumerate("abc"):
        records = prompts() if name != "b" else prompts()[:2]
        write(tmp_path / f"{name}.jsonl", [{**r, "prompt": f"{k}{r['prompt']}"} for r in records])
    by_two = load(tmp_path)
    alone(monkeypatch)
    assert said(load(tmp_path)) == said(by_two)


def test_texts_with_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    tokenizer = make_tokenizer(labels=("no", "yes"))
    records = [{"text": "é<end>" * (k % 7), "label": k % 2, "id": k} for k in range(COUNT)]
    path = write(tmp_path / "a.jsonl", records)
    by_two = load(path, 12, tokenizer)
    assert len(started) == 2
    assert by_two[0].unused_keys == {"id": 60}
    assert by_two[0].shapes == {"label": 51}
    alone(monkeypatch)
    assert said(load(path, 12, tokenizer)) == said(by_two)
    path = write(path, records, L40=b'{"text": "a", "label": "maybe"}')
    with pytest.raises(DataError, match=r"a\.jsonl:41: the label maybe is none of no, yes"):
        load(path, 12, tokenizer)


WRONG = {
    "JSON": b"{",
    "shape": b'{"text": "a document"}',
    "key": b'{"prompt": "a"}',
    "type": b'{"prompt": "a", "completion": 1}',
    "UTF-8": b'{"prompt": "\xff", "completion": "b"}',
    "zero": b'{"prompt": "\0", "completion": "b"}',
    "length": b'{"prompt": "' + b"p" * (4 << 20) + b'", "completion": "b"}',
    "mark": b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}',
    "depth": b"[" * 100_000,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_has_the_error_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], kind: str
) -> None:
    path = write(tmp_path / "a.jsonl", prompts(), L40=WRONG[kind])
    with pytest.raises(DataError) as by_two:
        load(path)
    assert started
    alone(monkeypatch)
    with pytest.raises(DataError) as by_one:
        load(path)
    assert (str(by_two.value), by_two.value.hint) == (str(by_one.value), by_one.value.hint)
    assert "a.jsonl:41" in str(by_one.value)


def test_a_record_of_nothing_is_counted_or_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", prompts())
    with pytest.raises(DataError, match=r"a\.jsonl:1: the completion is empty"):
        load(path, strict=True)


def test_nothing_before_the_first_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record that is well formed, and so the shape, is not in the first block."""
    empty = [{"instruction": "i", "output": ""}] * COUNT
    path = write(tmp_path / "a.jsonl", [*empty, *prompts()])
    by_two = load(path)
    alone(monkeypatch)
    assert said(load(path)) == said(by_two)


def test_an_empty_record_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process it is an error. A block of its own would only count it."""
    other = [{"instruction": "i", "output": ""}] * COUNT
    path = write(tmp_path / "a.jsonl", [*prompts(), *other])
    with pytest.raises(DataError, match="a record of instruction"):
        load(path)
    alone(monkeypatch)
    with pytest.raises(DataError, match="a record of instruction"):
        load(path)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", prompts())
    right = said(load(path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert said(load(path)) == right


def test_a_small_file_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    monkeypatch.setattr(block_reader, "_LEAST_BYTES", 1 << 20)
    load(write(tmp_path / "a.jsonl", prompts()))
    assert not started


def test_large_tokenizers_take_fewer_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """180 MiB and 16 times the tokenizer's size for each, of 2 GiB, and never more than 8."""
    monkeypatch.setattr(block_reader, "default_threads", lambda: 64)
    assert block_reader._process_count(1 << 30, 2 << 20) == 8
    assert block_reader._process_count(1 << 30, 34 << 20) == 2
    assert block_reader._process_count(300, 2 << 20) == 4


def test_an_interrupt_ends_the_processes(tmp_path: Path, started: list[Any]) -> None:
    path = write(tmp_path / "a.jsonl", prompts())

    def interrupt(position: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_split(DataOptions((path,)), TOKENIZER, 24, on_progress=interrupt)
    assert started
    for process in started:
        assert process._process.poll() is not None


def test_the_tokenizer_is_read_again_as_it_was() -> None:
    begin = json.loads(json.dumps(TOKENIZER.begin()))
    again = Tokenizer.of_model(begin["tokenizer_json"], begin["model"])
    assert vars(again).keys() == vars(TOKENIZER).keys()
    for name in ("eos", "eos_text", "end_texts", "beginning", "chat_template", "labels"):
        assert getattr(again, name) == getattr(TOKENIZER, name)
    assert again.template_variables == TOKENIZER.template_variables
