# SPDX-License-Identifier: Apache-2.0
"""Tokens of images: in the place of placeholders, and as rows beside a sequence."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gsqc.bundle.image_file import ImageRows, ImagesMaker, image_file
from gsqc.data import DataOptions, TokenSequence, load_split
from gsqc.data.image_records import NamedImage
from gsqc.data.seen import ImageTable
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError

PLACEHOLDER, VOCABULARY = 9, 20


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Images of 2 and 3 rows. The tokens 5 and 6 stand around each."""
    images = {}
    for name, rows in (("a", 2), ("b", 3)):
        (tmp_path / name).write_text(name)
        codes = np.arange(rows * 4, dtype=np.int16).reshape(rows, 4) + 100 * rows
        tokens = np.array([5, *[PLACEHOLDER] * rows, 6], np.int32)
        exponents = np.full(rows, rows, np.int8)
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        images[sha256] = ImageRows(codes, exponents, tokens)
    path = tmp_path / "images.safetensors"
    maker = ImagesMaker("tiny", "llava", "0" * 64, 4, PLACEHOLDER)
    path.write_bytes(b"".join(image_file(maker, images)))
    tokenizer = SimpleNamespace(decode=lambda ids, special: "<image>")
    return ImageTable(path, cast(Any, tokenizer), VOCABULARY, (4, 4))


def test_tokens_name_the_rows_of_the_whole_file(table: ImageTable, tmp_path: Path) -> None:
    tokens = [table.tokens_of(NamedImage("x", tmp_path, name)).tolist() for name in "ab"]
    assert tokens == [[5, 20, 21, 6], [5, 22, 23, 24, 6]]


def expanded(table: ImageTable, ids: list[int], *images: list[int]) -> tuple[list[int], list[int]]:
    counted = np.ones(len(ids), np.uint8).tobytes()
    arrays = [np.array(image, np.int32) for image in images]
    found = table.expand(np.array(ids, np.int32).tobytes(), counted, arrays)
    return np.frombuffer(found[0], np.int32).tolist(), list(found[1])


def test_images_stand_where_placeholders_stood_and_have_no_loss(table: ImageTable) -> None:
    assert expanded(table, [1, 9, 2, 9], [20, 21], [5, 22, 6]) == (
        [1, 20, 21, 2, 5, 22, 6],
        [1, 0, 0, 1, 0, 0, 0],
    )
    assert expanded(table, [1, 2]) == ([1, 2], [1, 1])
    with pytest.raises(DataError, match="a record has 1 images and 0 tokens <image>"):
        expanded(table, [1, 2], [20])
    with pytest.raises(DataError, match="a record has 5 rows of images, and the bundle takes 4"):
        expanded(table, [9, 9], [20, 21], [22, 23, 24])


def test_a_sequence_gets_its_own_rows(table: ImageTable) -> None:
    tokens = np.array([1, 5, 22, 24, 6, 22, 3], np.int32)
    labels = np.array([5, 22, 24, 6, 22, 3, 0], np.int32)
    found = table.with_rows(TokenSequence(tokens, labels, np.zeros(7, np.int32)))
    assert found.tokens.tolist() == [1, 5, 20, 21, 6, 20, 3]
    assert found.labels.tolist() == [5, 0, 0, 6, 0, 3, 0]
    assert found.image_rows is not None
    assert found.image_rows[0].tolist() == [[300, 301, 302, 303], [308, 309, 310, 311]]
    assert found.image_rows[1].tolist() == [3, 3]
    text = TokenSequence(tokens[:2], labels[:2], np.zeros(2, np.int32))
    assert table.with_rows(text).image_rows is None
    assert table.with_rows(text).labels.tolist() == [5, 0]


def test_data_that_is_read_without_images_takes_no_file_of_them(tmp_path: Path) -> None:
    options = DataOptions((tmp_path / "a.jsonl",), images=tmp_path / "images.safetensors")
    tokenizer = cast(Tokenizer, SimpleNamespace(labels=None))
    with pytest.raises(OptionError, match="--images has a meaning for gsqc train alone"):
        load_split(options, tokenizer, 8)
