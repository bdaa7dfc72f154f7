# SPDX-License-Identifier: Apache-2.0
"""A program that holds a model's tokenizer. `tokenizer.Tokenizer` starts it (bounded_program).

The library panics on some files and aborts on others. It begins with {tokenizer_json, special},
and answers:

{}                {beginning, texts, special_texts}: what stands before a text, the texts of
                  `special` ids, and those of all control tokens. Also {added}: the texts of all
                  added tokens if a text may be cut into words, else None
{encode, starts}  {counts} and int32 bytes: the ids of each text, without added special tokens
                  With `starts`, the character at which each token begins follows each text's ids.
{decode, special} {text}
"""

from __future__ import annotations

import json
from array import array
from typing import Any

from tokenizers import Tokenizer

LIMITS = (20, 8 << 30)
"""Seconds of CPU time for a short request, and bytes of memory.

A tokenizer of 262144 tokens takes 0.5 GB and 3 seconds to open, and 0.12 GB and a second for each
million characters. The longest text of a file has 64 million.
"""


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class Server:
    """A tokenizer that answers requests. Raises ValueError where the library does not."""

    def __init__(self, tokenizer_json: str, special: dict[str, int]) -> None:
        self.special = special
        try:
            self.tokenizer = Tokenizer.from_str(tokenizer_json)
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
        except BaseException as error:  # the library's panic is none of Exception
            raise ValueError(f"it cannot be read ({_reason(error)})") from None

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | tuple[dict[str, Any], bytes]:
        """The answer to a request."""
        try:
            if "encode" in request:
                return self._encode(request["encode"], request["starts"])
            if "decode" in request:
                special = request["special"]
                text = self.tokenizer.decode(request["decode"], skip_special_tokens=not special)
                return {"text": text}
            return self._facts()
        except BaseException as error:  # as above
            raise ValueError(f"it fails ({_reason(error)})") from None

    def _facts(self) -> dict[str, Any]:
        """What the tokenizer puts before a text, and the texts of special tokens."""
        bare, added = (
            self.tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True)
        )
        starts = (k for k in range(len(added) - len(bare) + 1) if added[k : k + len(bare)] == bare)
        texts = {name: self.tokenizer.id_to_token(token) for name, token in self.special.items()}
        special = [t.content for t in self._added() if t.special]
        return {
            "beginning": added[: next(starts, 0)],
            "texts": texts,
            "special_texts": special,
            "added": [t.content for t in self._added()] if self._splits_words() else None,
        }

    def _added(self) -> list[Any]:
        return list(self.tokenizer.get_added_tokens_decoder().values())

    def _splits_words(self) -> bool:
        """Whether `word_cache` may cut a text into words: see there."""
        if self.tokenizer.normalizer is not None or self.tokenizer.pre_tokenizer is None:
            return False
        if any(t.single_word or t.lstrip or t.rstrip for t in self._added()):
            return False
        state = json.loads(self.tokenizer.pre_tokenizer.__getstate__())
        parts = state["pretokenizers"] if state["type"] == "Sequence" else [state]
        return any(map(_splits_before_spaces, parts)) and all(map(_is_known, parts))

    def _encode(self, texts: list[str], starts: bool) -> tuple[dict[str, Any], bytes]:
        encode = self.tokenizer.encode_batch if starts else self.tokenizer.encode_batch_fast
        numbers, counts = array("i"), []
        for encoding in encode(texts, add_special_tokens=False):
            ids = encoding.ids
            counts.append(len(ids))
            numbers.extend(ids)
            if starts:
                numbers.extend(start for start, _ in encoding.offsets)
        return {"counts": counts}, numbers.tobytes()


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
    """The server of {tokenizer_json, special}. Raises ValueError if the text is no tokenizer."""
    return Server(begin["tokenizer_json"], begin["special"])
