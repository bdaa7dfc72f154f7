# SPDX-License-Identifier: Apache-2.0
"""Special tokens are those of transformers for a directory, and of llama.cpp for a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gsqc.data.tokenizer import Tokenizer as OurTokenizer
from gsqc.data.turn_ends import turn_ends
from gsqc.models.special_tokens import end_texts, tokens_of_directory, tokens_of_gguf

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}"
)


def tokenizer(*special: str, plain: tuple[str, ...] = ()) -> Tokenizer:
    """A token for each byte, some special tokens, and `plain` ones in the vocabulary alone."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: k for k, c in enumerate([*alphabet, *plain])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True) for text in special])
    return made


def directory(path: Path, made: Tokenizer, **files: Any) -> dict[str, Any]:
    """Write a model's files, and what we read of them. `config` is config.json."""
    made.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    named = files.get("tokenizer_config", {}), files.get("special_tokens_map", {})
    config, generation = files.get("config", {}), files.get("generation_config", {})
    return tokens_of_directory(config, generation, named, made.to_str())


ADDED = {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}},
        {"tokenizer_config": {"bos_token": None, "eos_token": "</s>", "add_bos_token": True}},
        {"tokenizer_config": {"eos_token": {**ADDED, "__type": "AddedToken"}}},
        {"tokenizer_config": {"unk_token": "<pad>", "image_token": "<s>", "sep_token": "</s>"}},
        {"tokenizer_config": {"extra_special_tokens": {"eot_token": "</s>", "boi": "<s>"}}},
        {"tokenizer_config": {}, "special_tokens_map": {"bos_token": ADDED, "eos_token": "</s>"}},
        {
            "tokenizer_config": {"eos_token": "<s>", "pad_token": "<pad>"},
            "special_tokens_map": {"eos_token": "</s>"},
        },
        {
            "tokenizer_config": {
                "eos_token": "<s>",
                "added_tokens_decoder": {"256": {**ADDED, "special": True}},
            },
            "special_tokens_map": {"eos_token": "</s>"},
        },
    ],
)
def test_a_templates_variables_are_those_of_transformers(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    config = {"model_type": "llama", "bos_token_id": 7, "eos_token_id": 8}
    made = directory(tmp_path, tokenizer("<s>", "</s>", "<pad>"), config=config, **files)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert made["special_tokens"] == theirs.special_tokens_map
    expected = 8 if theirs.eos_token_id is None else [theirs.eos_token_id, 8]
    assert made["eos_token_id"] == expected
    assert made["bos_token_id"] == (7 if theirs.bos_token_id is None else theirs.bos_token_id)


def test_a_named_token_is_one_token_as_in_transformers(tmp_path: Path) -> None:
    """It stands in the vocabulary, and only tokenizer_config.json says that it is special."""
    transformers = pytest.importorskip("transformers")
    made = tokenizer("<s>", plain=("<turn>", "<other>"))
    named = {"bos_token": "<s>", "eos_token": "<turn>"}
    metadata = directory(tmp_path, made, config={}, tokenizer_config=named)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    ours = OurTokenizer.of_model(made.to_str(), metadata)
    for text in ("a<turn>b<other>", "<s><turn>", "<turn"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.control_tokens() == {"<turn>": made.token_to_id("<turn>"), "<s>": 258}
    assert ours.eos == theirs.eos_token_id


@pytest.mark.parametrize(
    ("files", "eos", "ends"),
    [
        # Llama 3: config.json names the end of text, the tokenizer the end of a turn.
        (
            {
                "config": {"eos_token_id": 256},
                "generation_config": {"eos_token_id": [256, 257]},
                "tokenizer_config": {"eos_token": "<|eot_id|>"},
            },
            [257, 256],
            {256, 257},
        ),
        ({"config": {"eos_token_id": 256}}, 256, {256, 257}),  # <|eot_id|> by its text
        ({"config": {"eos_token_id": 3}, "generation_config": {"eos_token_id": 4}}, 4, {3, 4, 257}),
        ({"config": {}, "tokenizer_config": {"eos_token": "<none>"}}, None, {257}),
    ],
)
def test_the_ends_of_generation(
    tmp_path: Path, files: dict[str, Any], eos: Any, ends: set[int]
) -> None:
    made = directory(tmp_path, tokenizer("<|end_of_doc|>", "<|eot_id|>"), **files)
    assert made["eos_token_id"] == eos
    assert set(made["end_token_ids"]) == ends


def test_end_texts_that_other_tokens_change() -> None:
    """As llama.cpp has it for o200k_harmony, solar-open and gemma4."""
    assert end_texts(["<|end|>", "x"]) == ["<|end|>"]
    assert set(end_texts(["<|end|>", "<|return|>", "<|call|>"])) == {"<|return|>", "<|call|>"}
    assert set(end_texts(["<|end|>", "<|flush|>", "<|calls|>"])) == {"<|flush|>", "<|calls|>"}
    assert end_texts(["</s>", "<|tool_response>"]) == ["<|tool_response>"]


def test_a_turn_that_ends_with_another_token_than_the_text() -> None:
    made = tokenizer("<|im_start|>", "<|im_end|>", "</s>").to_str()
    metadata = {"eos_token_id": 258, "chat_template": CHATML}
    assert turn_ends(made, metadata) == [257]
    other = CHATML.replace("<|im_end|>", "").replace("<|im_start|>", "</s>")
    assert turn_ends(made, {**metadata, "chat_template": other}) == [258]  # that of the next turn
    for none in (None, "{% for", CHATML.replace("<|im_end|>", "."), {"a": 1}):
        assert turn_ends(made.replace("<|im_start|>", "<|x|>"), {"chat_template": none}) == []
    assert turn_ends("{}", metadata) == []


GGUF = {"tokenizer.ggml.tokens": ["a", "<s>", "</s>", "<|eot_id|>", "<pad>"]}


def test_what_gguf_metadata_says() -> None:
    ids = {"bos": 1, "eos": 2, "padding": 4, "unknown": 9, "eom": 0}
    made = tokens_of_gguf(GGUF | {f"tokenizer.ggml.{k}_token_id": v for k, v in ids.items()})
    texts = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert made["special_tokens"] == texts
    assert made["end_token_ids"] == [2, 0, 3]
    assert tokens_of_gguf({"tokenizer.ggml.tokens": [[]]})["special_tokens"] is None
