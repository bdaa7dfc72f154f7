# SPDX-License-Identifier: Apache-2.0
"""Records and texts become padded sequences. Errors name what is malformed by file and line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.data import WEIGHT_ONE, Dataset, TokenSequence, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import BundleError, DataError
from tests.runtime.small_bundle import END, manifest, write_bundle

LENGTH = 16


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(Bundle.open(write_bundle(tmp_path_factory.mktemp("bundle") / "small.gsqc")))


def jsonl(tmp_path: Path, *records: object) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def record(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def counted(tokenizer: Tokenizer, sequence: TokenSequence) -> str:
    """The text of the labels that count, with | for the end."""
    labels = sequence.labels[sequence.weights == WEIGHT_ONE].tolist()
    return tokenizer.decode([t for t in labels if t != END]) + "|" * labels.count(END)


def test_loss_counts_on_the_completion_and_the_end(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = load_data(jsonl(tmp_path, record("ab", "xyz")), tokenizer, LENGTH)
    (sequence,) = data.sequences
    assert counted(tokenizer, sequence) == "xyz|"
    assert tokenizer.decode(sequence.tokens[:6].tolist()) == "ab\nxyz"
    np.testing.assert_array_equal(sequence.tokens[1:6], sequence.labels[:5])
    assert sequence.weights.tolist() == [0, 0] + [WEIGHT_ONE] * 4 + [0] * 10
    for array in (sequence.tokens, sequence.labels, sequence.weights):
        assert array.shape == (LENGTH,)
        assert array.dtype == np.int32
    assert data.report() is None


def test_truncation_is_counted_and_reported(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """17 tokens fit: 16 inputs and their labels. Of more, the last are lost."""
    path = jsonl(
        tmp_path,
        record("abc", "0123456789xy"),
        record("abc", "0123456789xyz"),
        record("p" * 15, "q"),
        record("p" * 16, "q"),
    )
    data = load_data(path, tokenizer, LENGTH)
    assert [counted(tokenizer, s) for s in data.sequences] == [
        "0123456789xy|",
        "0123456789xyz",
        "q",
    ]
    assert (data.truncated_records, data.truncated_tokens, data.skipped_records) == (2, 2, 1)
    report = data.report() or ""
    assert "2 records were cut" in report
    assert "2 tokens lost" in report
    assert "1 records" in report


def test_an_empty_prompt_and_text_beyond_ascii(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = load_data(jsonl(tmp_path, record("", "é\n\u2028")), tokenizer, LENGTH)
    assert [counted(tokenizer, s) for s in data.sequences] == ["é\n\u2028|"]


def test_blank_lines_windows_lines_and_a_byte_order_mark(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "data.jsonl"
    line = json.dumps(record("a", "b")).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    assert len(load_data(path, tokenizer, LENGTH).sequences) == 2


def test_plain_text_is_cut_without_a_gap(tmp_path: Path, tokenizer: Tokenizer) -> None:
    text = "".join(chr(97 + k % 26) for k in range(40))
    (tmp_path / "data.txt").write_text(text)
    data = load_data(tmp_path / "data.txt", tokenizer, LENGTH)
    assert "".join(counted(tokenizer, s) for s in data.sequences) == text[1:] + "|"
    assert [s.weighted_tokens for s in data.sequences] == [16, 16, 8]
    assert (data.report(), data.record_lengths) == (None, [41])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ('{"prompt": "a", "completion": "b"', "not JSON"),
        ("[" * 100_000, "nested"),
        ("9" * 5000, "digits"),
        ("[]", "not a JSON object"),
        ('{"prompt": "a"}', "no completion"),
        ('{"completion": "a"}', "no prompt"),
        ('{"question": "a"}', "none of messages"),
        ('{"text": "a"}', "a record of text in a file of prompt"),
        ('{"prompt": 1, "completion": "a"}', "prompt is not a text"),
        ('{"prompt": "a", "completion": 3}', "completion is not a text"),
        ('{"prompt": "a", "completion": "\\u0000"}', "completion has a zero byte"),
        ('{"prompt": "\\ud800", "completion": "a"}', "surrogate"),
    ],
)
def test_a_malformed_record_is_named_by_file_and_line(
    tmp_path: Path, tokenizer: Tokenizer, line: str, reason: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(record("a", "b")) + "\n" + line + "\n")
    with pytest.raises(DataError, match=reason) as error:
        load_data(path, tokenizer, LENGTH)
    assert "data.jsonl:2" in str(error.value)
    assert len(str(error.value)) < 200


def test_all_malformed_lines_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"data.jsonl:1: .*data.jsonl:3: .*and 2 more lines"):
        load_data(jsonl(tmp_path, 1, 2, 3, 4, 5), tokenizer, LENGTH)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data.tsv", b"a", "neither"),
        ("data", b"a", "neither"),
        ("data.jsonl", b"", "empty"),
        ("data.txt", b"", "empty"),
        ("data.md", b" \n\n", "empty"),
        ("data.json", b"[]", "empty"),
        ("data.jsonl", b'{"prompt": "\xff"}', "UTF-8"),
        ("data.txt", b"\xff", "UTF-8"),
        ("data.jsonl", b'{"prompt": "ppppppppppppppppppppppp", "completion": "c"}', "prompt alone"),
    ],
)
def test_a_file_that_gives_nothing_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load_data(tmp_path / name, tokenizer, LENGTH)


def test_a_missing_file_and_a_directory(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name, reason in (
        ("absent.jsonl", "no such data file"),
        ("folder.jsonl", "has no file of records"),
    ):
        with pytest.raises(DataError, match=reason):
            load_data(tmp_path / name, tokenizer, LENGTH)


def test_a_bundle_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no tokenizer"):
        Tokenizer(Bundle.open(write_bundle(tmp_path / "a.gsqc", tokenizer=False)))


def test_without_an_end_token_the_completion_alone_counts(tmp_path: Path) -> None:
    model = replace(manifest().model, eos_token_id=None)
    tokenizer = Tokenizer(Bundle.open(write_bundle(tmp_path / "a.gsqc", model=model)))
    path = jsonl(tmp_path, record("ab", "xyz"), record("", "z"), record("", "yz"))
    data = load_data(path, tokenizer, LENGTH)
    assert [counted(tokenizer, s) for s in data.sequences] == ["xyz", "z"]
    assert (
        data.skipped_records == 1
    )  # a lone first token has no token before it to be predicted from


def numbered(count: int) -> Dataset:
    arrays = [np.full(4, k, np.int32) for k in range(count)]
    return Dataset([TokenSequence(a, a, a) for a in arrays])


def test_each_epoch_visits_every_sequence_once_in_its_own_order() -> None:
    batches = numbered(5).batches(2, seed=3)
    order = [int(s.tokens[0]) for _ in range(10) for s in next(batches)]
    epochs = [order[k : k + 5] for k in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(e) for e in epochs}) > 1


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_resumed_order_goes_on_as_the_whole_one(batch: int) -> None:
    """Batches larger than the data set go through several epochs."""
    whole, rest = numbered(5).batches(batch, seed=3), numbered(5).batches(batch, seed=3, start=4)
    taken = [[int(s.tokens[0]) for s in next(whole)] for _ in range(9)]
    assert [[int(s.tokens[0]) for s in next(rest)] for _ in range(5)] == taken[4:]
