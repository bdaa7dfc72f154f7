# SPDX-License-Identifier: Apache-2.0
"""The bundle's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer as _Tokenizer

from gsqc.bundle import Bundle
from gsqc.errors import BundleError


class Tokenizer:
    """Text to tokens and back; `eos` is the end-of-text token or None."""

    def __init__(self, bundle: Bundle) -> None:
        if "tokenizer.json" not in bundle.files:
            raise BundleError(
                "this bundle has no tokenizer, so it cannot read text",
                "compile a model directory that has a tokenizer.json, or give token ids through gsqc.runtime.Session",
            )
        try:
            self._tokenizer = _Tokenizer.from_str(bundle.file("tokenizer.json").read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"the bundle's tokenizer cannot be read ({error})", "compile the model again") from None
        eos = bundle.manifest["model"].get("eos_token_id")
        self.eos: int | None = eos if isinstance(eos, int) else None

    def encode(self, text: str) -> list[int]:
        """Token ids, without added special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
