# SPDX-License-Identifier: Apache-2.0
"""The chat templates of a directory and of a GGUF file are those that transformers takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("gguf")

from transformers import PreTrainedTokenizerFast

from gsqc.models.readers import gguf, hf
from tests.runtime.small_bundle import byte_tokenizer

NAMED = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]


@pytest.mark.parametrize(
    ("setting", "files"),
    [
        (None, {}),
        ("d", {}),
        (NAMED, {}),
        ("d", {"chat_template.jinja": "f"}),
        (NAMED, {"chat_template.jinja": "f"}),
        (None, {"chat_template.jinja": "f", "additional_chat_templates/tool_use.jinja": "u"}),
        ("d", {"additional_chat_templates/tool_use.jinja": "u"}),
        (NAMED, {"additional_chat_templates/rag.jinja": "r", "chat_template.jinja": "f"}),
    ],
)
def test_the_templates_of_a_directory(tmp_path: Path, setting: Any, files: dict[str, str]) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    config = {} if setting is None else {"chat_template": setting}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "additional_chat_templates").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    made = hf._chat_template(tmp_path, config)
    named = {t["name"]: t["template"] for t in made} if isinstance(made, list) else made
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path).chat_template
    assert named == theirs


def test_the_templates_of_a_gguf_file() -> None:
    key = "tokenizer.chat_template"
    assert gguf._chat_template({}) is None
    assert gguf._chat_template({key: "d"}) == "d"
    named = {key: "d", f"{key}s": ["tool_use", "rag"], f"{key}.tool_use": "t"}
    assert sorted(map(str, gguf._chat_template(named))) == sorted(map(str, NAMED))
