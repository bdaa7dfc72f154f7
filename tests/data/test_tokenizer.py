# SPDX-License-Identifier: Apache-2.0
"""What a model says of its tokens, and the variables of its chat template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.data.tokenizer import Tokenizer
from tests.data.small_data import BOS, make_tokenizer
from tests.data.templates import CHATML
from tests.runtime.small_bundle import END, byte_tokenizer, manifest, write_bundle


@pytest.mark.parametrize(
    ("model", "eos", "template"),
    [
        ({"eos_token_id": [END, 3]}, END, None),
        ({"eos_token_id": None}, None, None),
        ({"eos_token_id": "x", "chat_template": 3}, None, None),
        (
            {
                "chat_template": [
                    {"name": "tool_use", "template": "t"},
                    {"name": "default", "template": "d"},
                ]
            },
            END,
            "d",
        ),
        ({"chat_template": [{"name": "tool_use", "template": "t"}]}, END, None),
    ],
)
def test_what_a_model_says_of_its_tokens(
    model: dict[str, Any], eos: int | None, template: str | None
) -> None:
    made = make_tokenizer(**model)
    assert (made.eos, made.chat_template, made.beginning) == (eos, template, ())


def test_the_variables_of_a_template() -> None:
    assert make_tokenizer(bos_token_id=BOS, eos_token_id=END).template_variables == {
        "bos_token": byte_tokenizer().id_to_token(BOS),
        "eos_token": "<end>",
    }


def test_a_bundle_carries_its_template(tmp_path: Path) -> None:
    model = replace(manifest().model, chat_template=CHATML)
    assert (
        Tokenizer(Bundle.open(write_bundle(tmp_path / "a.gsqc", model=model))).chat_template
        == CHATML
    )
