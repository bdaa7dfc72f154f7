# SPDX-License-Identifier: Apache-2.0
"""JSON by the letter: what a lax reader would take is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.bundle.json_text import MAXIMUM_DEPTH, read_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b' {"a": [1, -2, 1.5, true, null]} ', {"a": [1, -2, 1.5, True, None]}),
        (b'{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (rb'["\ud83d\ude00 \\ud83d"]', ["\U0001f600 \\ud83d"]),
        (b"[18446744073709551616, 5]", [2.0**64, 5]),
        (b"[" * MAXIMUM_DEPTH + b"]" * MAXIMUM_DEPTH, None),
    ],
)
def test_what_is_json(text: bytes, value: Any) -> None:
    assert value is None or read_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{} {}",
        b'{"a": 1, "a": 1}',
        b'[{"a": {"b": 1, "b": 2}}]',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[" + b"9" * 400 + b"]",
        b"[" + b"9" * 5000 + b"]",
        rb'["\ud83d"]',
        rb'{"\uDC00": 1}',
        b'["\xff"]',
        b"\xef\xbb\xbf{}",
        b"[" * (MAXIMUM_DEPTH + 1) + b"]" * (MAXIMUM_DEPTH + 1),
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b"[" * 100_000,
    ],
)
def test_what_is_not(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_minus_zero_is_no_count() -> None:
    assert type(read_json(b"[-0]")[0]) is float
    assert type(read_json(b"[0]")[0]) is int
