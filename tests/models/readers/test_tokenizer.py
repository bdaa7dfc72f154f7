# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of GGUF metadata is written as the library writes it, and damage is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from gsqc.errors import ModelError
from gsqc.models.readers.tokenizer import tokenizer_from_gguf

KEY = "tokenizer.ggml."
TOKENS = ["a", "b", "ab", "<s>", "<u>", "Ġ", "ü", '\x1f\x7f\u2028"/\\', "$A:1 B", "aba"]
PLAIN: dict[str, Any] = {
    "model": "gpt2",
    "tokens": TOKENS,
    "merges": ["ab a", "a b", "ab a"],
    "token_type": [1, 1, 1, 3, 4, 1, 1, 1, 3, 1],
}


def text(**changes: Any) -> str:
    """The tokenizer of the metadata with changed values."""
    made = tokenizer_from_gguf({f"{KEY}{k}": v for k, v in {**PLAIN, **changes}.items()})
    assert made is not None
    return made


@pytest.mark.parametrize("cut", ["default", "gpt-2", "smollm", "qwen2", "llama-bpe"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bos_token_id": 3, "add_bos_token": True},
        {"bos_token_id": 8, "add_bos_token": True},  # in the library's own notation it means more
        {"tokens": ["a", "b", "ab", "<s>", "<s>", "a", "", "z", "ü", "aba"]},
        {"token_type": [], "merges": []},
    ],
)
def test_the_text_is_that_of_the_library(cut: str, changes: dict[str, Any]) -> None:
    made = text(pre=cut, **changes)
    assert Tokenizer.from_str(made).to_str() == made


def test_special_tokens_and_merges() -> None:
    made = json.loads(text())
    assert [(t["id"], t["content"], t["special"]) for t in made["added_tokens"]] == [
        (3, "<s>", True),
        (4, "<u>", False),
        (8, "$A:1 B", True),
    ]
    assert made["model"]["merges"] == [["a", "b"], ["ab", "a"]]
    assert tokenizer_from_gguf({}) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "t5"}, "of the kind t5"),
        ({"model": []}, "of the kind"),
        ({"pre": "other"}, "cuts words as other"),
        ({"pre": ["qwen2"]}, "cuts words as"),
        ({"tokens": "abc"}, "list of other values"),
        ({"tokens": [1, 2]}, "list of other values"),
        ({"merges": 7}, "list of other values"),
        ({"token_type": [1.5] * 10}, "list of other values"),
        ({"token_type": [1]}, "incomplete"),
        ({"tokens": []}, "incomplete"),
        ({"merges": ["a"]}, "incomplete"),
        ({"merges": ["a q"]}, "joins a and q"),
        ({"merges": ["b a"]}, "joins b and a"),
        ({"model": "llama"}, "one finite score"),
        ({"model": "llama", "scores": [0.0] * 9}, "one finite score"),
        ({"model": "llama", "scores": [float("nan")] * 10}, "one finite score"),
        (
            {"model": "llama", "scores": [0.0] * 10, "tokens": ["a" * 513] * 10, "merges": []},
            "too long",
        ),
    ],
)
def test_damage_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        text(**changes)
