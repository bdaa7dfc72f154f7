# SPDX-License-Identifier: Apache-2.0
"""Records that share a sequence with --packing, and those that --validation holds out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gsqc.data import (
    DataOptions,
    data_digest,
    held_out_digest,
    load_data,
    load_split,
    validation_share,
)
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError
from tests.data.small_data import counted, inputs, jsonl, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def numbered(path: Path, count: int) -> Path:
    return jsonl(path, *({"prompt": f"p{k}", "completion": f"c{k}"} for k in range(count)))


def test_packed_records_are_whole_and_their_prompts_have_no_loss(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = load_data(numbered(tmp_path / "a.jsonl", 7), tokenizer, 16, packing=True)
    assert [inputs(tokenizer, s) for s in data.sequences] == [
        "p0\nc0<end>p1\nc1<end>",
        "p2\nc2<end>p3\nc3<end>",
        "p4\nc4<end>p5\nc5<end>",
        "p6\nc6<end>",
    ]
    assert counted(tokenizer, data.sequences[0]) == "c0<end>c1<end>"
    with pytest.raises(DataError, match="stand between packed records"):
        load_data(tmp_path / "a.jsonl", make_tokenizer(eos_token_id=None), 16, packing=True)


def test_a_share_is_held_out_the_same_everywhere(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = numbered(tmp_path / "a.jsonl", 20)
    train, held = load_split(DataOptions((path,), validation="0.2", packing=True), tokenizer, 16)
    assert held is not None
    names = [inputs(tokenizer, s).split("\n")[0] for s in held.sequences]
    assert names == ["p1", "p2", "p11", "p17"]
    kept = "".join(inputs(tokenizer, s) for s in train.sequences)
    assert all((f"p{k}\n" in kept) == (f"p{k}" not in names) for k in range(20))
    again = load_split(DataOptions((path,), validation="20%"), tokenizer, 16)[1]
    assert again is not None
    assert [inputs(tokenizer, s).split("\n")[0] for s in again.sequences] == names
    assert train.record_lengths == [6] * 10 + [8] * 10


def test_a_file_is_held_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train, held = load_split(
        DataOptions(
            (numbered(tmp_path / "a.jsonl", 3),), validation=str(numbered(tmp_path / "b.jsonl", 2))
        ),
        tokenizer,
        16,
    )
    assert held is not None
    assert (len(train.sequences), len(held.sequences)) == (3, 2)
    assert load_split(DataOptions((tmp_path / "a.jsonl",)), tokenizer, 16)[1] is None


def test_a_share_of_one_record(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="one record"):
        load_split(
            DataOptions((numbered(tmp_path / "a.jsonl", 1),), validation="0.5"), tokenizer, 16
        )
    train, held = load_split(
        DataOptions((numbered(tmp_path / "b.jsonl", 2),), validation="0.99"), tokenizer, 16
    )
    assert held is not None
    assert (len(train.sequences), len(held.sequences)) == (1, 1)


@pytest.mark.parametrize(
    "text", ["0", "1", "1.5", "-0.1", "100%", "nan", "inf", "absent.jsonl", "", "1e-999999999"]
)
def test_what_is_neither_a_share_nor_a_file(text: str) -> None:
    with pytest.raises(OptionError, match="neither a file nor a share"):
        validation_share(text)


def test_shares() -> None:
    assert validation_share("0.05") == validation_share("5%") == Fraction(1, 20)
    assert validation_share(None) is None


def test_the_splits_of_a_directory(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """mlx-lm's layout. Today's right answer is what mlx_lm.lora does with it."""
    for name, count in (("train", 5), ("valid", 2), ("test", 3)):
        numbered(tmp_path / f"{name}.jsonl", count)
    train, held = load_split(DataOptions((tmp_path,)), tokenizer, 16)
    assert held is not None
    assert (len(train.sequences), len(held.sequences)) == (5, 2)
    assert train.report() == (
        "valid.jsonl: held out, for the name says so; 2 held-out sequences are also trained on; "
        "not read: files of the split test (1, first test.jsonl)"
    )
    share, drawn = load_split(DataOptions((tmp_path,), validation="0.2"), tokenizer, 16)
    assert drawn is not None
    assert (len(share.sequences), len(drawn.sequences)) == (4, 1)
    assert [unread.name for unread in share.unread] == ["test.jsonl", "valid.jsonl"]
    for given, count in (
        (tmp_path / "valid.jsonl", 2),
        (tmp_path, 2),
        (tmp_path / "test.jsonl", 3),
    ):
        options = DataOptions((tmp_path,), validation=str(given))
        train, held = load_split(options, tokenizer, 16)
        assert held is not None
        assert (len(train.sequences), len(held.sequences)) == (5, count)
        left = ["test.jsonl"] + ["valid.jsonl"] * (count == 3)
        assert [unread.name for unread in train.unread] == left
        assert held_out_digest(options) is not None
    assert held_out_digest(DataOptions((tmp_path,))) == data_digest([tmp_path / "valid.jsonl"])
    assert held_out_digest(DataOptions((tmp_path / "train.jsonl",))) is None


def test_duplicates_across_the_split_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    same = {"prompt": "p", "completion": "c"}
    path = jsonl(tmp_path / "a.jsonl", *[same] * 4)
    train, _ = load_split(DataOptions((path,), validation="0.5"), tokenizer, 16)
    assert train.held_out_twice == 2
    alone = load_split(DataOptions((numbered(path, 4),), validation="0.5"), tokenizer, 16)[0]
    assert alone.held_out_twice == 0
