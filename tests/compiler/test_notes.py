# SPDX-License-Identifier: Apache-2.0
"""What compile tells of how a model was read, before the work begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from gsqc.compiler.compile import _note_reading


def told(text: str | None, /, **metadata: Any) -> list[str]:
    said: list[str] = []
    captured: Any = SimpleNamespace(tokenizer_json=text, metadata=metadata, check=None)
    _note_reading(captured, said.append, lambda _: None)
    return said


def test_a_plain_model_needs_no_note() -> None:
    assert told("{}", tokenizer="tokenizer.json", notes=[]) == []
    assert told("{}", tokenizer="from the GGUF file's metadata") == []


def test_a_text_part_is_told() -> None:
    assert told("{}", tokenizer="tokenizer.json", notes=["only the text part"]) == [
        "note: only the text part"
    ]


def test_where_a_tokenizer_is_from_is_told() -> None:
    origin = "converted by transformers from vocab.json and merges.txt"
    assert told("{}", tokenizer=origin) == [f"tokenizer: {origin}"]
    (line,) = told(None, tokenizer="none: the directory has no tokenizer.json")
    assert line.startswith("tokenizer: none: the directory has no tokenizer.json. The bundle")
