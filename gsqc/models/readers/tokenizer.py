# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in a GGUF file's metadata, as the text of a tokenizer.json.

The text is written here and not by the library of tokenizers, which aborts on strange values. It is
the text that the library would write.
"""

from __future__ import annotations

import json
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.readers.scored_pieces import (
    BYTE,
    decoder,
    is_usable,
    merges_by_score,
    normalizer,
)
from gsqc.models.readers.word_cuts import byte_level, pre_tokenizer, takes_whole_words
from gsqc.models.special_tokens import adds_bos, end_texts, token_id

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # ggml's token types that the text is cut at first
_STRIPPED = ("phi-3", "phi3")
"""In the name of a model whose control tokens swallow the white space behind them."""
_NOT_STRIPPED = ("<unk>", "<s>", "<|endoftext|>")

_SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
}


def _beginning(metadata: dict[str, Any], tokens: list[str]) -> dict[str, Any] | None:
    """The part that puts BOS before a text, if the file or its kind of tokenizer asks for it."""
    bos = token_id(metadata, "bos")
    if not adds_bos(metadata) or bos is None:
        return None
    a, b = ({"Sequence": {"id": name, "type_id": k}} for k, name in enumerate("AB"))
    first = tokens[bos]
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": first, "type_id": 0}}, a],
        "pair": [a, b],
        "special_tokens": {first: {"id": first, "ids": [bos], "tokens": [first]}},
    }


def _marked(tokens: list[str], types: list[int]) -> dict[str, bool]:
    """The tokens that the text is cut at first, and whether they are control tokens."""
    marked = {
        t: kind != _USER_DEFINED
        for t, kind in zip(tokens, types, strict=True)
        if t and kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    }
    # Ends are control tokens whatever their types are, as in llama.cpp.
    return marked | dict.fromkeys(end_texts(tokens), True)


def _added_tokens(
    metadata: dict[str, Any], marked: dict[str, bool], vocabulary: dict[str, int]
) -> list[dict[str, Any]]:
    name = str(metadata.get("general.name", "")).lower()
    strips = any(part in name for part in _STRIPPED)
    return [
        {
            "id": vocabulary[token],
            "content": token,
            **_SPECIAL,
            "rstrip": strips and token not in _NOT_STRIPPED,
            "special": special,
        }
        for token, special in sorted(marked.items(), key=lambda item: vocabulary[item[0]])
    ]


def tokenizer_from_gguf(metadata: dict[str, Any]) -> str | None:
    """The JSON text of a tokenizer of BPE, of bytes or of pieces of SentencePiece; None if the file
    has no tokenizer.

    Raises ModelError for other kinds of tokenizers, and for a damaged one.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None:
        return None
    if kind not in ("gpt2", "llama"):
        raise ModelError(
            f"the GGUF file has a tokenizer of the kind {kind}",
            "gsqc reads byte-level BPE (gpt2) and SentencePiece (llama)",
        )
    tokens, merges, types = _vocabulary(metadata)
    marked, vocabulary = _marked(tokens, types), {token: k for k, token in enumerate(tokens)}
    of_kind = _of_bytes(metadata, merges) if kind == "gpt2" else _of_pieces(metadata, tokens, types)
    model, further = of_kind
    in_order = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(metadata, marked, vocabulary),
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _beginning(metadata, tokens),
        **further,
        "model": {**_MODEL, "ignore_merges": False, "vocab": in_order, "merges": [], **model},
    }
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


Parts = tuple[dict[str, Any], dict[str, Any]]
"""What a kind of tokenizer has in `model`, and beside it."""


def _of_bytes(metadata: dict[str, Any], merges: list[list[str]]) -> Parts:
    """Byte-level BPE: a text is cut into words, whose bytes are merged."""
    cut = metadata.get("tokenizer.ggml.pre", "default")
    model = {"ignore_merges": takes_whole_words(cut), "merges": merges}
    return model, {"pre_tokenizer": pre_tokenizer(cut), "decoder": byte_level(prefix=True)}


def _of_pieces(metadata: dict[str, Any], tokens: list[str], types: list[int]) -> Parts:
    """SentencePiece: a text is one word, whose characters are merged by the scores of tokens."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not is_usable(tokens, scores):
        raise _damaged("it has not one finite score for each token, or a token is too long")
    assert isinstance(scores, list)
    bytes_of = {t for t, kind in zip(tokens, types, strict=True) if kind == BYTE}
    unknown = token_id(metadata, "unknown")
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True) is True
    model = {
        "unk_token": None if unknown is None else tokens[unknown],
        "fuse_unk": True,
        "byte_fallback": True,
        "merges": merges_by_score(tokens, scores, {*_marked(tokens, types), *bytes_of}),
    }
    return model, {"normalizer": normalizer(prefix=prefix), "decoder": decoder(prefix=prefix)}


def _vocabulary(metadata: dict[str, Any]) -> tuple[list[str], list[list[str]], list[int]]:
    """The tokens, the merges as pairs, and the tokens' types. ModelError if they do not fit."""
    tokens, merges, types = (
        metadata.get(f"tokenizer.ggml.{k}") or [] for k in ("tokens", "merges", "token_type")
    )
    for values, kind in ((tokens, str), (merges, str), (types, int)):
        if type(values) is not list or not all(type(value) is kind for value in values):
            raise _damaged("it has a list of other values")
    types = types or [1] * len(tokens)
    # Of equal merges the last counts, as in the library.
    pairs = [merge.split(" ") for merge in reversed(dict.fromkeys(reversed(merges)))]
    if not tokens or len(types) != len(tokens) or any(len(p) != 2 for p in pairs):
        raise _damaged("it is incomplete")
    known = set(tokens)
    for left, right in pairs:
        if not {left, right, left + right} <= known:
            raise _damaged(f"it joins {left} and {right}, which are not all tokens")
    return tokens, pairs, types


def _damaged(what: str) -> ModelError:
    return ModelError(f"the GGUF file's tokenizer is damaged: {what}", "fetch the file again")
