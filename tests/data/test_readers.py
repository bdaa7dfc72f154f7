# SPDX-License-Identifier: Apache-2.0
"""Each form of file gives the records that JSONL would, or an error that names it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import gsqc.data.content
import gsqc.data.json_reader
from gsqc.data import data_digest, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from gsqc.files import spool
from tests.data.small_data import inputs, jsonl, make_tokenizer

RECORDS = [
    {"prompt": 'a, "b"', "completion": "c\nd", "id": "1"},
    {"prompt": "", "completion": "é🙂", "id": "2"},
]
EXPECTED = ['a, "b"\nc\nd<end>', "<end>é🙂<end>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def write(path: Path) -> Path:
    """The records in the form that the path's suffix names, by a writer that is not ours."""
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    text = io.StringIO()
    if suffix == "csv":
        writer = csv.DictWriter(text, ["prompt", "completion", "id"])
        writer.writeheader()
        writer.writerows(RECORDS)
    else:
        text.write(json.dumps(RECORDS) if suffix == "json" else lines)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    "suffix", ["jsonl", "ndjson", "json", "csv", "jsonl.gz", "ndjson.gz", "json.gz", "csv.gz"]
)
def test_every_form_has_the_same_records(tmp_path: Path, tokenizer: Tokenizer, suffix: str) -> None:
    told: list[tuple[int, int]] = []
    path = write(tmp_path / f"a.{suffix}")
    data = load_data(path, tokenizer, 64, on_progress=lambda done, all_: told.append((done, all_)))
    assert [inputs(tokenizer, s) for s in data.sequences] == EXPECTED
    assert data.unused_keys == {"id": 2}
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert data_digest([path]) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_parquet(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist([*RECORDS, {"prompt": "x"}]), path)
    data = load_data(path, tokenizer, 64)
    assert [inputs(tokenizer, s) for s in data.sequences] == EXPECTED
    assert (data.unused_keys, data.empty_records) == ({"id": 3}, 1)
    parquet.write_table(pa.Table.from_pylist([{"question": "a"}]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet has the columns question"):
        load_data(tmp_path / "b.parquet", tokenizer, 64)
    content = bytearray(path.read_bytes())
    for bad in (b"PAR1", bytes(content[:-30]), bytes(content[:40] + b"\xff" * 40 + content[80:])):
        (tmp_path / "bad.parquet").write_bytes(bad)
        with pytest.raises(DataError, match=r"pyarrow cannot read bad\.parquet"):
            load_data(tmp_path / "bad.parquet", tokenizer, 64)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs the package pyarrow") as error:
        load_data(path, tokenizer, 64)
    assert "pip install pyarrow" in error.value.hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("question,answer\na,b\n", "a.csv has the columns question, answer"),
        ("prompt;completion\na;b\n", "separated by commas"),
        ("prompt,prompt\na,b\n", "two columns of one name"),
        ("prompt,completion\na\n", "a.csv:2: a row of 1 cells below a header of 2"),
        ('prompt,completion\na,"b', "a.csv:2: unexpected end of data"),
        ("", "the data set is empty"),
        ("prompt,completion,weight\na,b,0.5\n", "the key weight is not supported"),
    ],
)
def test_a_csv_that_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, text: str, reason: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "a.csv", tokenizer, 64)
    assert reason in f"{error.value} {error.value.hint}"


def test_packed_files_are_bounded(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gsqc.data.content, "MAXIMUM_DATA_BYTES", 1000)
    monkeypatch.setattr(gsqc.data.json_reader, "MAXIMUM_ARRAY_BYTES", 1000)
    line = json.dumps({"text": "a" * 80}).encode() + b"\n"
    for name, content in (("a.jsonl.gz", line * 20), ("a.json.gz", b"[" + b" " * 2000 + b"]")):
        (tmp_path / name).write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=r"unpacks to more than|has more than"):
            load_data(tmp_path / name, tokenizer, 64)
    whole = gzip.compress(line)
    for bad in (b"no gzip", whole[:-9], whole[:12] + b"\xff\xff\xff" + whole[15:]):
        (tmp_path / "b.jsonl.gz").write_bytes(bad)
        with pytest.raises(DataError, match=r"cannot read b.jsonl.gz"):
            load_data(tmp_path / "b.jsonl.gz", tokenizer, 64)


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, tokenizer: Tokenizer, code: str) -> None:
    for name in ("a.txt", "a.md", "a.jsonl", "a.json", "a.csv"):
        (tmp_path / name).write_bytes('[{"text": "a"}]\nmore'.encode(code))
        with pytest.raises(DataError, match=r"UTF-16") as error:
            load_data(tmp_path / name, tokenizer, 64)
        assert "UTF-8" in error.value.hint


def test_a_zero_byte_is_never_trained_on(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\nt\0wo")
    with pytest.raises(DataError, match=r"a.txt has a zero byte.*byte 5 in line 2"):
        load_data(tmp_path / "a.txt", tokenizer, 64)
    chat = {"messages": [{"role": "assistant", "content": "\0"}]}
    for record in ({"text": "a\0"}, {"prompt": "\0", "completion": "a"}, chat):
        with pytest.raises(DataError, match=r"a\.jsonl:1: .* has a zero byte"):
            load_data(jsonl(tmp_path / "a.jsonl", record), tokenizer, 64)


@pytest.mark.parametrize("array", [False, True])
def test_standard_input(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, array: bool) -> None:
    lines = "".join(json.dumps(r) + "\n" for r in RECORDS).encode()
    content = json.dumps(RECORDS).encode() if array else lines
    pipe(monkeypatch, content)
    assert data_digest([Path("-")]) == hashlib.sha256(content).hexdigest()
    for _ in range(2):
        data = load_data(Path("-"), tokenizer, 64)
        assert [inputs(tokenizer, s) for s in data.sequences] == EXPECTED


def test_standard_input_that_is_refused(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, b"prompt,completion\n")
    with pytest.raises(DataError, match="standard input is neither JSONL nor a JSON array"):
        load_data(Path("-"), tokenizer, 64)
    monkeypatch.setattr(gsqc.data.content, "MAXIMUM_DATA_BYTES", 10)
    pipe(monkeypatch, b"{" * 11)
    with pytest.raises(DataError, match="cannot read standard input: it has more than"):
        load_data(Path("-"), tokenizer, 64)


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Content as standard input."""
    spool._spooled.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_the_tokens_are_those_of_one_array(tmp_path: Path, tokenizer: Tokenizer) -> None:
    store = load_data(write(tmp_path / "a.jsonl"), tokenizer, 64).sequences[:1]
    assert len(store) == 1
    np.testing.assert_array_equal(store[-1].tokens, store[0].tokens)
