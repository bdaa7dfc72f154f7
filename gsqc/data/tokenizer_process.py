# SPDX-License-Identifier: Apache-2.0
"""A program that holds a model's tokenizer. `tokenizer.Tokenizer` starts it (bounded_program).

The library panics on some files and aborts on others. It begins with {tokenizer_json, special,
named}, and answers:

{}                {beginning, ending, texts, control}: what the tokenizer itself puts before a text
                  and behind it, the texts of `special` ids, the control tokens with their ids
{encode, ranges}  {counts} and int32 bytes: the ids of each text, without added special tokens
                  `encode` holds the bytes of each text, which is UTF-8 behind the request.
                  With `ranges`, the ids of each text are followed by the characters at which its
                  tokens begin, and by those at which they end.
{decode, special} {text}
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from tokenizers import Tokenizer

from gsqc.data.word_cache import WordCache

LIMITS = (20, 8 << 30)
"""Seconds of CPU time for a short request, and bytes of memory.

A tokenizer of 262144 tokens takes 0.5 GB and 3 seconds to open, and 0.12 GB and a second for each
million characters. The longest text of a file has 64 million.
"""
_ID_BYTES = 4
_RANDOM = ("dropout", "alpha", "nbest_size")
"""Settings of random choices: BPE's dropout, and the sampling of Unigram."""


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _open(tokenizer_json: str, named: list[str]) -> Tokenizer:
    """The tokenizer of a file, without the state that is no part of tokenisation.

    transformers writes truncation and padding into the file when it was asked for them once. It
    also makes a special token of each one that tokenizer_config.json names.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for name in _RANDOM:
        if getattr(tokenizer.model, name, None) is not None:
            setattr(tokenizer.model, name, None)
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_special_tokens(
        [t for t in named if t not in added and tokenizer.token_to_id(t) is not None]
    )
    return tokenizer


class Server:
    """A tokenizer that answers requests. Raises ValueError where the library does not."""

    def __init__(self, tokenizer_json: str, special: dict[str, int], named: list[str]) -> None:
        try:
            self.tokenizer = _open(tokenizer_json, named)
            self.facts = self._facts(special)
            added = self.tokenizer.get_added_tokens_decoder().values()
            texts = [token.content for token in added] if self._splits_words() else None
            self._words = WordCache(self._ids, texts)
            # It would take leading spaces off the ranges of tokens. Nothing else needs it.
            self.tokenizer.post_processor = None
        except BaseException as error:  # the library's panic is none of Exception
            raise ValueError(f"it cannot be read ({_reason(error)})") from None

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | tuple[dict[str, Any], bytes]:
        """The answer to a request."""
        try:
            if "encode" in request:
                ends = accumulate(request["encode"], initial=0)
                raw = request.get("raw", b"")
                texts = [raw[start:end].decode() for start, end in pairwise(ends)]
                return self._encode(texts, request["ranges"])
            if "decode" in request:
                special = request["special"]
                text = self.tokenizer.decode(request["decode"], skip_special_tokens=not special)
                return {"text": text}
            return self.facts
        except BaseException as error:  # as above
            raise ValueError(f"it fails ({_reason(error)})") from None

    def _facts(self, special: dict[str, int]) -> dict[str, Any]:
        """What the tokenizer puts around a text, the texts of special tokens, and all control
        tokens.
        """
        bare, whole = (
            self.tokenizer.encode("a", add_special_tokens=adds).ids for adds in (False, True)
        )
        starts = (k for k in range(len(whole) - len(bare) + 1) if whole[k : k + len(bare)] == bare)
        start = next(starts, None)
        added = list(self.tokenizer.get_added_tokens_decoder().items())
        return {
            "beginning": whole[: start or 0],
            "ending": [] if start is None else whole[start + len(bare) :],
            "texts": {name: self.tokenizer.id_to_token(token) for name, token in special.items()},
            "control": {token.content: number for number, token in added if token.special},
        }

    def _splits_words(self) -> bool:
        """Whether `word_cache` may cut a text into words: see there."""
        if self.tokenizer.normalizer is not None or self.tokenizer.pre_tokenizer is None:
            return False
        added = self.tokenizer.get_added_tokens_decoder().values()
        if any(t.single_word or t.lstrip or t.rstrip for t in added):
            return False
        state = json.loads(self.tokenizer.pre_tokenizer.__getstate__())
        parts = state["pretokenizers"] if state["type"] == "Sequence" else [state]
        return any(map(_splits_before_spaces, parts)) and all(map(_is_known, parts))

    def _encode(self, texts: list[str], ranges: bool) -> tuple[dict[str, Any], bytes]:
        if not ranges:
            tokens = self._words.encode(texts)
            return {"counts": [len(ids) // _ID_BYTES for ids in tokens]}, b"".join(tokens)
        numbers, counts = array("i"), []
        for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False):
            counts.append(len(encoding.ids))
            numbers.extend(encoding.ids)
            offsets = encoding.offsets
            numbers.extend(start for start, _ in offsets)
            numbers.extend(end for _, end in offsets)
        return {"counts": counts}, numbers.tobytes()

    def _ids(self, texts: Sequence[str]) -> list[bytes]:
        """The token ids of each text, int32, by the library."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [array("i", encoding.ids).tobytes() for encoding in encodings]


_PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",  # Qwen2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",  # Llama 3
)
"""Patterns that `word_cache` was proved for."""


def _splits_before_spaces(part: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer splits a text as GPT-2 or one of the patterns does."""
    if part["type"] == "ByteLevel":
        return bool(part["use_regex"])
    is_known = part["type"] == "Split" and part["pattern"].get("Regex") in _PATTERNS
    return is_known and part["behavior"] == "Isolated" and not part["invert"]


def _is_known(part: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer looks at no character before or behind the pieces that it makes."""
    if part["type"] == "ByteLevel":
        return not part["add_prefix_space"]
    return part["type"] == "Digits" or _splits_before_spaces(part)


def open_program(begin: dict[str, Any]) -> Server:
    """The server of {tokenizer_json, special, named}. ValueError if the text is no tokenizer."""
    return Server(begin["tokenizer_json"], begin["special"], begin["named"])
