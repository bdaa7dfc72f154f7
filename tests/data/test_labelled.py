# SPDX-License-Identifier: Apache-2.0
"""Texts with labels become sequences of a classifier: what is read, cut, packed and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.data import WEIGHT_ONE, DataOptions, load_data
from gsqc.data.labels import label_number
from gsqc.data.load import load_split
from gsqc.data.summary import counts, example_parts
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError
from tests.data.small_data import jsonl
from tests.word_tokenizer import word_tokenizer

LABELS = ("bad", "good", "7")
LENGTH = 8
CLS, SEP, FILM, IS, GOOD = 2, 3, 8, 11, 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.of_model(word_tokenizer().to_str(), {"vocabulary": 320, "labels": LABELS})


def load(tokenizer: Tokenizer, path: Path, *records: object, **how: Any) -> Any:
    return load_data(jsonl(path / "data.jsonl", *records), tokenizer, LENGTH, **how)


def test_a_text_has_its_loss_at_its_first_token(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = load(tokenizer, tmp_path, {"text": "film is good", "label": "good"})
    (sequence,) = data.sequences
    assert sequence.tokens.tolist() == [CLS, FILM, IS, GOOD, SEP, 0, 0, 0]
    assert sequence.labels.tolist() == [1, *[0] * 7]
    assert sequence.weights.tolist() == [WEIGHT_ONE, *[0] * 7]
    # Each token of padding is a record of its own: no token of the text sees it.
    assert sequence.positions.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]
    assert data.shapes == {"label": 1}
    assert data.report() is None
    assert counts(data, LENGTH)["tokens"] == 5


def test_the_end_of_a_long_text_is_cut_and_its_last_token_stays(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = load(tokenizer, tmp_path, {"text": "good is " * 9, "label": 2})
    (sequence,) = data.sequences
    assert sequence.tokens.tolist() == [CLS, *[GOOD, IS] * 3, SEP]
    assert sequence.labels[0] == 2
    assert (data.truncated_records, data.truncated_tokens) == (1, 12)


def test_packed_texts_do_not_see_each_other(tmp_path: Path, tokenizer: Tokenizer) -> None:
    records = [{"text": "good", "label": "good"}, {"text": "film is", "label": "bad"}]
    data = load(tokenizer, tmp_path, *records, packing=True)
    (sequence,) = data.sequences
    assert sequence.tokens.tolist() == [CLS, GOOD, SEP, CLS, FILM, IS, SEP, 0]
    assert sequence.positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert np.flatnonzero(sequence.weights).tolist() == [0, 3]
    assert sequence.labels[[0, 3]].tolist() == [1, 0]
    assert example_parts(sequence, tokenizer) == [
        ("[CLS] good [SEP]", False), (" good", True),
        ("[CLS] film is [SEP]", False), (" bad", True),
    ]  # fmt: skip


@pytest.mark.parametrize(("label", "number"), [("bad", 0), (1, 1), ("1", 1), ("7", 2), (7, 2)])
def test_labels_are_names_or_numbers(label: Any, number: int) -> None:
    """A name goes before a number."""
    assert label_number(label, LABELS) == number


@pytest.mark.parametrize("label", ["Good", 3, -1, "٣", True, 1.0, ["good"], "\x1b[2J"])
def test_unknown_labels_are_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="is none of bad, good, 7, nor the number of one") as told:
        label_number(label, LABELS)
    assert "\x1b" not in str(told.value)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": "good"}, "the text has no label"),
        ({"text": "good", "label": None}, "the text has no label"),
        ({"text": "good", "label": "great"}, "the label great is none of"),
        ({"label": "good"}, "the record has none of"),
    ],
)
def test_other_records_are_refused(
    tmp_path: Path, tokenizer: Tokenizer, record: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError) as error:
        load(tokenizer, tmp_path, {"text": "good", "label": 0}, record)
    assert told in str(error.value)
    assert "data.jsonl:2" in str(error.value)


def test_records_of_language_models_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r'gives texts a label: write {"text": …, "label": …}'):
        load(tokenizer, tmp_path, {"prompt": "good", "completion": "x"})


def test_a_table_of_csv(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "data.csv"
    path.write_text('text,label\n"film is good",good\nbad,0\n')
    data = load_data(path, tokenizer, LENGTH)
    assert [sequence.labels[0] for sequence in data.sequences] == [1, 0]


def test_a_held_out_share_has_labels_too(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "d.jsonl", *({"text": "good", "label": k % 2} for k in range(10)))
    kept, held = load_split(DataOptions((path,), validation="20%"), tokenizer, LENGTH)
    assert held is not None
    assert (len(kept.sequences), len(held.sequences)) == (8, 2)
    assert all(sequence.weights[0] == WEIGHT_ONE for sequence in held.sequences)


@pytest.mark.parametrize("how", [{"mask_prompt": False}, {"prompt_end": " "}])
def test_options_of_prompts_are_refused(
    tmp_path: Path, tokenizer: Tokenizer, how: dict[str, Any]
) -> None:
    path = jsonl(tmp_path / "data.jsonl", {"text": "good", "label": 0})
    with pytest.raises(OptionError, match="has no meaning for a classifier"):
        load_split(DataOptions((path,), **how), tokenizer, LENGTH)


def test_a_language_model_has_no_use_of_labels(tmp_path: Path) -> None:
    model = Tokenizer.of_model(word_tokenizer().to_str(), {"vocabulary": 320})
    data = load(model, tmp_path, {"text": "film is good", "label": "good"})
    assert data.unused_keys == {"label": 1}
    assert data.shapes == {"document": 1}
