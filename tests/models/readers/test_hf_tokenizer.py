# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of older directories: as transformers converts them, or none with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gsqc.errors import ModelError
from gsqc.models.readers.hf_tokenizer import tokenizer_of
from tests.models.readers.older_tokenizer import write_older_tokenizer

TEXTS = ("Hello world, it's 2024!", "two  spaces\n\nand a tab\t.", "ça va? 你好 🙂", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """vocab.json and merges.txt of a byte-level BPE, as GPT-2's directory has them."""
    write_older_tokenizer(tmp_path, 400)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path


def test_a_model_that_sees_names_the_tokenizer_of_its_text(folder: Path) -> None:
    """AutoTokenizer knows none for its type. The class that it names is transformers' too."""
    plain, _ = tokenizer_of(folder)
    (folder / "config.json").write_text('{"model_type": "smolvlm"}')
    text, reason = tokenizer_of(folder)
    assert text is None
    assert reason.startswith("none: transformers cannot convert vocab.json and merges.txt (")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    text, _ = tokenizer_of(folder)
    assert text is not None
    assert plain is not None
    for given in TEXTS:
        assert (
            Tokenizer.from_str(text).encode(given).ids
            == Tokenizer.from_str(plain).encode(given).ids
        )


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer", None])
def test_vocabulary_and_merges(folder: Path, kind: str | None) -> None:
    if kind is not None:
        settings = json.dumps({"tokenizer_class": kind})
        (folder / "tokenizer_config.json").write_text(settings)
    text, origin = tokenizer_of(folder)
    assert origin == "converted by transformers from vocab.json and merges.txt"
    assert text is not None
    ours, theirs = Tokenizer.from_str(text), AutoTokenizer.from_pretrained(folder)
    for given in TEXTS:
        assert ours.encode(given).ids == theirs(given)["input_ids"]
    assert ours.encode("Hello world").ids


def test_its_own_file_goes_first(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert tokenizer_of(folder) == ('{"version": "1.0"}', "tokenizer.json")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        tokenizer_of(folder)


def test_what_cannot_be_converted_has_a_reason(folder: Path) -> None:
    (folder / "merges.txt").unlink()
    assert tokenizer_of(folder) == (None, "none: the directory has no tokenizer.json")
    (folder / "tokenizer.model").write_bytes(b"no tokenizer")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "vocab.json").unlink()
    text, reason = tokenizer_of(folder)
    assert text is None
    assert reason.startswith("none: transformers cannot convert tokenizer.model")


def test_a_process_that_ends_is_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "program.py"
    program.write_text("import os; print('no JSON', flush=True); os.abort()")
    monkeypatch.setattr("gsqc.models.readers.hf_tokenizer._PROGRAM", program)
    text, reason = tokenizer_of(folder)
    assert text is None
    assert "its process ended with exit code -6" in reason


def test_an_empty_conversion_is_none(folder: Path) -> None:
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text, reason = tokenizer_of(folder)
    assert text is None
    assert reason.startswith("none: ")
