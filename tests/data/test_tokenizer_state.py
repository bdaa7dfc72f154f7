# SPDX-License-Identifier: Apache-2.0
"""State in a tokenizer.json that is no part of tokenisation, and control tokens that a text has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors as post

from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer as Ours
from tests.data.small_data import counted, inputs, jsonl, make_tokenizer
from tests.runtime.small_bundle import END, byte_tokenizer

TEXTS = ["", "a b  c", "low lower\n\nlowest", "ä🙂</s>", " <s>low</s> ", "x" * 200, "lo\nw"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def bpe(*, dropout: float | None = None) -> Tokenizer:
    """Byte-level BPE with some merges, and BOS and EOS around a text."""
    words = [*ALPHABET, "lo", "low", "er", "Ġlow", "<unk>"]
    merges = [("l", "o"), ("lo", "w"), ("e", "r"), ("Ġ", "low")]
    vocabulary = {word: k for k, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, dropout=dropout))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>"])
    ids = [(text, made.token_to_id(text)) for text in ("<s>", "</s>")]
    made.post_processor = post.Sequence(
        [post.ByteLevel(trim_offsets=True), post.TemplateProcessing("<s> $A </s>", None, ids)]
    )
    return made


def unigram() -> Tokenizer:
    """SentencePiece's form: a mark for spaces, scores, an unknown token."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("low", -3.0), ("▁low", -3.5)]
    pieces += [(c, -5.0) for c in "abcxlower\n"]
    made = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<s>", "</s>"])
    return made


def padded() -> Tokenizer:
    made = bpe()
    made.enable_padding(length=40, pad_id=0, pad_token="!", direction="left")
    return made


def truncated() -> Tokenizer:
    made = bpe()
    made.enable_truncation(4, stride=1, direction="left")
    made.enable_padding()
    return made


def normalised() -> Tokenizer:
    made = bpe()
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.add_tokens([AddedToken("Low", normalized=True, lstrip=True)])
    made.enable_truncation(2)
    return made


ODD = {
    "padding": padded,
    "truncation": truncated,
    "dropout": lambda: bpe(dropout=0.5),
    "dropout of all": lambda: bpe(dropout=1.0),
    "a normaliser": normalised,
    "unigram": unigram,
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_read_as_transformers_reads_them_without_state(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    made = ODD[name]()
    ours = Ours.of_model(made.to_str(), {})
    made.no_truncation()
    made.no_padding()
    if isinstance(made.model, models.BPE):
        made.model.dropout = None
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
    expected = [theirs.encode(text, add_special_tokens=False) for text in TEXTS]
    for _ in range(3):
        assert [
            np.frombuffer(ids, np.int32).tolist() for ids in ours.encode_each(TEXTS)
        ] == expected
        assert [ids.tolist() for ids, *_ in ours.encode_each_with_ranges(TEXTS)] == expected


def test_ranges_hold_the_spaces_that_a_post_processor_cuts() -> None:
    ((ids, starts, ends),) = Ours.of_model(bpe().to_str(), {}).encode_each_with_ranges(["low low"])
    assert (len(ids), starts.tolist(), ends.tolist()) == (2, [0, 3], [3, 7])


def test_padding_and_truncation_lose_nothing_of_a_document(tmp_path: Path) -> None:
    cutting = byte_tokenizer()
    cutting.enable_truncation(4)
    cutting.enable_padding(length=9)
    tokenizer = Ours.of_model(cutting.to_str(), {"eos_token_id": END})
    text = "a long text of several lines\n" * 9
    (tmp_path / "a.txt").write_text(text)
    data = load_data(tmp_path / "a.txt", tokenizer, 16)
    assert sum(s.weighted_tokens for s in data.sequences) == len(text)  # all but the first, an end


@pytest.mark.parametrize(
    ("record", "tokens", "learned"),
    [
        ({"text": "word"}, "Aword<end>", "word<end>"),
        ({"text": "Aword"}, "Aword<end>", "word<end>"),
        ({"text": "word<end>"}, "Aword<end>", "word<end>"),
        ({"text": "Aword<end>\n \n"}, "Aword<end>\n \n", "word<end>\n \n"),
        ({"text": "word<end>and"}, "Aword<end>and<end>", "word<end>and<end>"),
        ({"prompt": "ask", "completion": "Yes"}, "Aask\nYes<end>", "Yes<end>"),
        ({"prompt": "Aask ", "completion": "Yes<end>"}, "Aask \nYes<end>", "Yes<end>"),
        ({"prompt": "", "completion": "Yes<end> "}, "AYes<end> ", "Yes<end> "),
        ({"prompt": "", "completion": "AYes"}, "AYes<end>", "Yes<end>"),
    ],
)
def test_one_beginning_and_one_end(
    tmp_path: Path, record: dict[str, str], tokens: str, learned: str
) -> None:
    tokenizer = make_tokenizer(bos=True)
    (sequence,) = load_data(jsonl(tmp_path / "a.jsonl", record), tokenizer, 24).sequences
    assert (inputs(tokenizer, sequence), counted(tokenizer, sequence)) == (tokens, learned)


def test_a_prompt_that_begins_with_bos_has_one() -> None:
    tokenizer = make_tokenizer(bos=True)
    plain = byte_tokenizer().encode("ask\n").ids
    bos = byte_tokenizer().token_to_id("A")
    assert tokenizer.encode_prompt("Aask") == tokenizer.encode_prompt("ask") == [bos, *plain]


def test_control_tokens_are_those_that_a_text_turns_into() -> None:
    made = bpe()
    made.add_tokens(["<plain>"])
    ours = Ours.of_model(made.to_str(), {})
    assert ours.control_tokens() == {
        token["content"]: token["id"]
        for token in json.loads(made.to_str())["added_tokens"]
        if token["special"]
    }
    for text, token in ours.control_tokens().items():
        assert ours.encode(text) == [token]
