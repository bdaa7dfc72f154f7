# SPDX-License-Identifier: Apache-2.0
"""Words alone have the tokens that they have in their text: the library's own, for every kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from gsqc.data import tokenizer_process
from gsqc.data.tokenizer_process import Server
from gsqc.data.word_cache import _WORD, WordCache

PARTS = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "a", "an", "The", "'s", "'", "1", "23", ".", "),"]
PARTS += ["é", "я", "猫", "²", "\u00a0", "\u2028", "\x1c", "<", "<x>", "<|a|>", "_", "🙂", "ﬁ"]
PARTS += ["\x85", "\0", ".\n", "\nThe", " a"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


def made(pre: pre_tokenizers.PreTokenizer, **added: bool) -> Tokenizer:
    """A byte tokenizer that would merge across every border that its pre-tokenizer leaves open."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    frequent = "Ġ.an\u010a'1c"
    merges = [(a, b) for a in frequent for b in frequent]
    names = [*alphabet, *(a + b for a, b in merges)]
    vocabulary = {name: k for k, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens(["<|a|>"])
    tokenizer.add_tokens([AddedToken("<x>", normalized=True, **added)])
    return tokenizer


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
KINDS = [
    BYTES,
    pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES]),
    *map(split, tokenizer_process._PATTERNS),
]


def ids_of(tokenizer: Tokenizer, text: str) -> bytes:
    """The library's tokens of a text."""
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32).tobytes()


def cache_of(tokenizer: Tokenizer) -> WordCache:
    return Server(tokenizer.to_str(), {}, [])._words


@pytest.mark.parametrize("kind", range(len(KINDS)))
@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXTS, min_size=3, max_size=6))
def test_the_tokens_are_those_of_the_library(kind: int, texts: list[str]) -> None:
    tokenizer = made(KINDS[kind])
    cache = cache_of(tokenizer)
    assert cache._cuts
    for _ in range(2):  # from the tokenizer, and from the cache
        texts = [*texts, "The an 'an. 1"]
        assert cache.encode(texts) == [ids_of(tokenizer, text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_words_are_the_whole_text(text: str) -> None:
    assert "".join(_WORD.findall(text)) == text


@pytest.mark.parametrize(
    "tokenizer",
    [
        made(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        made(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)),
        made(pre_tokenizers.Metaspace()),
        made(split(r"[a-z ]+")),
        made(BYTES, lstrip=True),
        made(BYTES, single_word=True),
    ],
)
def test_other_tokenizers_get_whole_texts(tokenizer: Tokenizer) -> None:
    assert not cache_of(tokenizer)._cuts


def test_a_normalizer_gets_whole_texts() -> None:
    tokenizer = made(BYTES)
    tokenizer.normalizer = normalizers.NFC()
    assert not cache_of(tokenizer)._cuts


def test_the_cache_asks_once_and_keeps_no_long_words() -> None:
    asked: list[str] = []
    tokenizer = made(BYTES)

    def encode(texts: Sequence[str]) -> list[bytes]:
        asked.extend(texts)
        return [ids_of(tokenizer, text) for text in texts]

    cache = WordCache(encode, [])
    text = "one two one two " + "x" * 100
    cache.encode([text, text])
    cache.encode([text])
    assert sorted(asked) == sorted([" one", " two", "one", *[" " + "x" * 100] * 2])
    assert sorted(cache._tokens) == ["\0one", "one", "two"]
