# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in a GGUF file's metadata, as the text of a tokenizer.json."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from gsqc.errors import ModelError

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


def _pre_tokenizer(kind: str) -> Any:
    if kind == "smollm":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    if kind in ("default", "gpt-2"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind not in _PATTERNS:
        known = ", ".join(["smollm", "gpt-2", *_PATTERNS])
        raise ModelError(f"the GGUF file's tokenizer cuts words as {kind}", f"gsqc knows {known}")
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERNS[kind]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


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
    tokens, pairs, types = _vocabulary(metadata)
    cut = metadata.get("tokenizer.ggml.pre", "default")
    ids = {token: k for k, token in enumerate(tokens)}
    try:
        tokenizer = Tokenizer(models.BPE(ids, pairs, ignore_merges=_PATTERNS.get(cut) == _LLAMA3))
    except Exception as error:  # the library has no class of its own
        raise ModelError(
            f"the GGUF file's tokenizer is damaged: {error}", "fetch the file again"
        ) from error
    tokenizer.pre_tokenizer = _pre_tokenizer(cut)
    tokenizer.decoder = decoders.ByteLevel()
    typed = list(zip(tokens, types, strict=True))
    special = [t for t, kind in typed if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    users = [t for t, kind in typed if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in users])
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token")
    if adds_bos and isinstance(bos, int) and 0 <= bos < len(tokens):
        first = tokens[bos]
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{first} $A", None, [(first, bos)]
        )
    text: str = tokenizer.to_str()
    return text


def _vocabulary(metadata: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]], list[int]]:
    """The tokens, the merges as pairs, and the tokens' types. ModelError if they do not fit."""
    tokens, merges, types = (
        metadata.get(f"tokenizer.ggml.{k}") or [] for k in ("tokens", "merges", "token_type")
    )
    pairs = [merge.split(" ") for merge in merges]
    types = types or [1] * len(tokens)
    if not tokens or len(types) != len(tokens) or any(len(p) != 2 for p in pairs):
        raise ModelError(
            "the GGUF file's tokenizer is incomplete", "the file is damaged: fetch it again"
        )
    return tokens, [(left, right) for left, right in pairs], types
