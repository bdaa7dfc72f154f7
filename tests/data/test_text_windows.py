# SPDX-License-Identifier: Apache-2.0
"""A text becomes windows in which each of its tokens has one loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gsqc.data.encode
from gsqc.data.text_windows import TextWindows, read_text_windows
from gsqc.errors import DataError
from tests.data.small_data import make_tokenizer
from tests.runtime.small_bundle import END, byte_tokenizer

LENGTH = 4


def windows(path: Path, text: str | bytes, length: int = LENGTH, **how: Any) -> TextWindows:
    file = path / "text.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    limit = how.pop("limit", None)
    return read_text_windows(file, make_tokenizer(**how), length, limit)


def ids(text: str) -> list[int]:
    return list(byte_tokenizer().encode(text).ids)


def shown(found: TextWindows) -> list[tuple[list[int], list[int]]]:
    """The tokens of each window, and the labels that have a loss."""
    return [(s.tokens.tolist(), s.labels[s.weights > 0].tolist()) for s in found.sequences]


def test_each_token_has_one_loss_and_the_end_of_text_stands_before_the_first(
    tmp_path: Path,
) -> None:
    found = windows(tmp_path, "abcdef")
    a, b, c, d, e, f = ids("abcdef")
    assert shown(found) == [([END, a, b, c], [a, b, c, d]), ([d, e, 0, 0], [e, f])]
    assert found.text_bytes == 6


def test_a_beginning_of_the_tokenizer_stands_there_once(tmp_path: Path) -> None:
    bos, a, b = ids("Aab")
    assert shown(windows(tmp_path, "ab", bos=True)) == [([bos, a, 0, 0], [a, b])]
    own = windows(tmp_path, "Aab", bos=True)
    assert shown(own) == [([bos, a, 0, 0], [a, b])]
    assert own.text_bytes == 2


def test_without_any_beginning_the_first_token_has_no_loss(tmp_path: Path) -> None:
    a, b, c = ids("abc")
    found = windows(tmp_path, "abc", eos_token_id=None)
    assert shown(found) == [([a, b, 0, 0], [b, c])]
    assert found.text_bytes == 2


@pytest.mark.parametrize("count", [2, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH, 21])
def test_windows_of_any_text_hold_it_once(tmp_path: Path, count: int) -> None:
    text = "".join(chr(97 + k) for k in range(count))
    found = windows(tmp_path, text)
    assert [label for _, labels in shown(found) for label in labels] == ids(text)
    assert len(found.sequences) == -(-count // LENGTH)
    assert found.text_bytes == count


def test_a_limit_takes_the_first_windows_and_their_bytes(tmp_path: Path) -> None:
    text = "aä€😀bc"  # 1 + 2 + 3 + 4 + 1 + 1 bytes, and as many tokens
    assert windows(tmp_path, text).text_bytes == 12
    first = windows(tmp_path, text, length=3, limit=1)
    assert (len(first.sequences), first.text_bytes) == (1, 3)
    second = windows(tmp_path, text, length=3, limit=2)
    assert (len(second.sequences), second.text_bytes) == (2, 6)
    assert windows(tmp_path, text, length=3, limit=99).text_bytes == 12


def test_a_long_text_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "äb\ncd\n😀e\nf"
    whole = windows(tmp_path, text)
    monkeypatch.setattr(gsqc.data.encode, "_TEXT_PART", 4)
    parts = windows(tmp_path, text)
    assert (shown(parts), parts.text_bytes) == (shown(whole), whole.text_bytes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is empty"),
        (b"a", "has 1 tokens, and a perplexity needs two"),
        (b"ab\xff", "is not UTF-8"),
        ("ab".encode("utf-16"), "UTF-16"),
        (b"a\0b", "zero byte"),
    ],
)
def test_a_text_that_cannot_be_measured_is_told(tmp_path: Path, text: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        windows(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_text_windows(tmp_path / "absent.txt", make_tokenizer(), LENGTH)
    with pytest.raises(DataError, match="directory"):
        read_text_windows(tmp_path, make_tokenizer(), LENGTH)
