# SPDX-License-Identifier: Apache-2.0
"""A tokenizer.json becomes the keys that llama.cpp's converter writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from gsqc.errors import ExportError
from gsqc.export.gguf.tokenizer import tokenizer_values
from gsqc.models import LoadedModel, load_model
from gsqc.models.catalogue import find_model
from gsqc.models.readers.gguf_file import read_gguf
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.readers.word_cuts import PATTERNS
from gsqc.models.special_tokens import tokens_of_gguf
from tests.llama_library import LlamaModel
from tests.models.readers.test_scored_pieces import write
from tests.models.readers.texts import PLAIN, crossing_merges, write_vocabulary

SPECIAL = ("<s>", "</s>", "<|im_end|>")
IDS = ("bos", "eos", "unknown", "padding")


def loaded(path: Path) -> LoadedModel:
    """A model with the tokenizer of a file, as if it came from a directory."""
    metadata = read_gguf(path).metadata
    text = tokenizer_from_gguf(metadata)
    said = SimpleNamespace(tokenizer_json=text, metadata=tokens_of_gguf(metadata))
    return cast("LoadedModel", said)


def test_smollm2_gets_what_its_own_file_has() -> None:
    """That file was made by llama.cpp's converter."""
    path = find_model("smollm2-135m")
    expected = read_gguf(path).metadata
    made = tokenizer_values(load_model(path), 49152, None)
    keys = ["model", "pre", "tokens", "merges", *(f"{name}_token_id" for name in IDS)]
    for key in (f"tokenizer.ggml.{key}" for key in keys):
        assert made.get(key) == expected.get(key), key
    assert made["tokenizer.chat_template"] == expected["tokenizer.chat_template"]
    assert made["tokenizer.ggml.add_bos_token"] is False


def of_bytes(path: Path, kind: str) -> tuple[LoadedModel, int]:
    """A byte-level tokenizer that cuts words as `kind`, and how many tokens its merges make."""
    tokens, merges = crossing_merges()
    write_vocabulary(
        path,
        model="gpt2",
        pre=kind,
        tokens=[*tokens, *SPECIAL],
        token_type=[1] * len(tokens) + [3] * len(SPECIAL),
        merges=list(merges),
        bos_token_id=len(tokens),
        eos_token_id=len(tokens) + 1,
    )
    return loaded(path), len(tokens)


@pytest.mark.parametrize("kind", ["default", "qwen2", "llama-bpe", "tekken", "falcon", "command-r"])
def test_the_pattern_of_a_tokenizer_is_found(tmp_path: Path, kind: str) -> None:
    model, count = of_bytes(tmp_path / "a.gguf", kind)
    made = tokenizer_values(model, count + 5, None)
    assert PATTERNS[made["tokenizer.ggml.pre"]] == PATTERNS[kind]
    assert made["tokenizer.ggml.tokens"][-2:] == [f"[PAD{count + k}]" for k in (3, 4)]
    assert made["tokenizer.ggml.token_type"][-5:] == [3, 3, 3, 5, 5]
    assert made["tokenizer.ggml.add_bos_token"] is (kind in ("llama-bpe", "tekken"))


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_get_scores_that_join_them_alike(tmp_path: Path, prefix: bool) -> None:
    model = loaded(write(tmp_path / "a.gguf", spaces=(), add_space_prefix=prefix))
    vocabulary = len(json.loads(model.tokenizer_json or "")["model"]["vocab"])
    made = tokenizer_values(model, vocabulary, None)
    assert made["tokenizer.ggml.model"] == "llama"
    assert made["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    keys = {key.removeprefix("tokenizer.ggml."): value for key, value in made.items()}
    again = write_vocabulary(tmp_path / "b.gguf", **keys)
    with LlamaModel(tmp_path / "a.gguf") as first, LlamaModel(again) as second:
        for text in PLAIN:
            assert first.encode(text) == second.encode(text)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece, not BPE"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "has no merges"),
        ({"normalizer": {"type": "Lowercase"}}, "no tokenizer that makes the model's tokens"),
        (None, "has no tokenizer"),
    ],
)
def test_what_no_file_can_say_is_refused(
    tmp_path: Path, change: dict[str, Any] | None, what: str
) -> None:
    model, count = of_bytes(tmp_path / "a.gguf", "gpt-2")
    text = (
        None if change is None else json.dumps({**json.loads(model.tokenizer_json or ""), **change})
    )
    other: Any = SimpleNamespace(tokenizer_json=text, metadata=model.metadata)
    with pytest.raises(ExportError, match=what):
        tokenizer_values(other, count, None)
