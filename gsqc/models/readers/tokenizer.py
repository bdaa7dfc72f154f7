# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in a GGUF file's metadata, as the text of a tokenizer.json.

The text is written here and not by the library of tokenizers, which aborts on strange values. It is
the text that the library would write.
"""

from __future__ import annotations

import json
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.special_tokens import adds_bos, end_texts

_CONTROL, _USER_DEFINED = 3, 4  # ggml's token types that the text is cut at first

# How text is cut into words before the merges: the patterns are those of the models' own
# tokenizer.json.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {"qwen2": _QWEN2, "llama-bpe": _LLAMA3, "llama3": _LLAMA3, "llama-v3": _LLAMA3}


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


def _byte_level(*, prefix: bool = False, regex: bool = True) -> dict[str, Any]:
    part = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True}
    return {**part, "use_regex": regex}


def _pre_tokenizer(kind: Any) -> dict[str, Any]:
    if kind in ("default", "gpt-2"):
        return _byte_level()
    if kind == "smollm":
        parts = [{"type": "Digits", "individual_digits": True}, _byte_level()]
    elif isinstance(kind, str) and kind in _PATTERNS:
        split = {"type": "Split", "pattern": {"Regex": _PATTERNS[kind]}, "behavior": "Isolated"}
        parts = [{**split, "invert": False}, _byte_level(regex=False)]
    else:
        known = ", ".join(["smollm", "gpt-2", *_PATTERNS])
        raise ModelError(f"the GGUF file's tokenizer cuts words as {kind}", f"gsqc knows {known}")
    return {"type": "Sequence", "pretokenizers": parts}


def _beginning(metadata: dict[str, Any], tokens: list[str]) -> dict[str, Any] | None:
    """The part that puts BOS before a text, if the file or its kind of tokenizer asks for it."""
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    if not adds_bos(metadata) or type(bos) is not int or not 0 <= bos < len(tokens):
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
        t: kind == _CONTROL
        for t, kind in zip(tokens, types, strict=True)
        if t and kind in (_CONTROL, _USER_DEFINED)
    }
    # Ends are control tokens whatever their types are, as in llama.cpp.
    return marked | dict.fromkeys(end_texts(tokens), True)


def tokenizer_from_gguf(metadata: dict[str, Any]) -> str | None:
    """The JSON text of a byte-level BPE tokenizer; None if the file has no tokenizer.

    Raises ModelError for other kinds of tokenizers, and for a damaged one.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None:
        return None
    if kind != "gpt2":
        raise ModelError(
            f"the GGUF file has a tokenizer of the kind {kind}", "gsqc reads byte-level BPE (gpt2)"
        )
    tokens, merges, types = _vocabulary(metadata)
    cut = metadata.get("tokenizer.ggml.pre", "default")
    vocabulary = {token: k for k, token in enumerate(tokens)}
    in_order = sorted(_marked(tokens, types).items(), key=lambda item: vocabulary[item[0]])
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[token], "content": token, **_SPECIAL, "special": special}
            for token, special in in_order
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(cut),
        "post_processor": _beginning(metadata, tokens),
        "decoder": _byte_level(prefix=True),
        "model": {
            **_MODEL,
            "ignore_merges": _PATTERNS.get(cut) == _LLAMA3,
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": merges,
        },
    }
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


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
