# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a bundle or a model, with its special tokens and its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as _Tokenizer

from gsqc.bundle.bundle import Bundle
from gsqc.errors import BundleError


class Tokenizer:
    """Text to tokens and back.

    eos            the end-of-text token, the first of several, or None
    beginning      the tokens that the model's tokenizer puts before a text: BOS, or nothing
    chat_template  the model's own, a Jinja text, or None

    Raises BundleError if the bundle has no tokenizer, or one that cannot be read.
    """

    def __init__(self, bundle: Bundle) -> None:
        if "tokenizer.json" not in bundle.files:
            raise BundleError(
                "this bundle has no tokenizer, so it cannot read text",
                "compile a model directory that has a tokenizer.json, "
                "or give token ids through gsqc.runtime.Session",
            )
        self._read(
            bundle.file("tokenizer.json").read_text(encoding="utf-8"), asdict(bundle.manifest.model)
        )

    @classmethod
    def of_model(cls, tokenizer_json: str, metadata: dict[str, Any]) -> Tokenizer:
        """The tokenizer that a bundle of a model would have.

        metadata  what the reader of the model gives: the fields of `manifest.ModelPart`

        Raises BundleError.
        """
        tokenizer = cls.__new__(cls)
        tokenizer._read(tokenizer_json, metadata)
        return tokenizer

    def _read(self, tokenizer_json: str, model: dict[str, Any]) -> None:
        try:
            self._tokenizer = _Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(
                f"the bundle's tokenizer cannot be read ({error})", "compile the model again"
            ) from None
        self.eos = _token_id(model.get("eos_token_id"))
        self._bos = _token_id(model.get("bos_token_id"))
        self.chat_template = _template(model.get("chat_template"))
        self.beginning: tuple[int, ...] = tuple(self._beginning())

    def _beginning(self) -> list[int]:
        """What the tokenizer puts before the tokens of a text when it adds special tokens."""
        bare, added = (
            self._tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True)
        )
        starts = (k for k in range(len(added) - len(bare) + 1) if added[k : k + len(bare)] == bare)
        return list(added[: next(starts, 0)])

    @property
    def template_variables(self) -> dict[str, str]:
        """The texts of bos_token and eos_token, as a chat template knows them."""
        ids = {"bos_token": self._bos, "eos_token": self.eos}
        texts = {
            name: self._tokenizer.id_to_token(token)
            for name, token in ids.items()
            if token is not None
        }
        return {name: text for name, text in texts.items() if text is not None}

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without added special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_prompt(self, prompt: str) -> list[int]:
        """A prompt as training and generation see it: the beginning, the text and a newline.

        If both are empty, the end of text stands before what follows.
        """
        if prompt:
            return [*self.beginning, *self.encode(prompt + "\n")]
        return list(self.beginning) or ([] if self.eos is None else [self.eos])

    def encode_with_starts(self, text: str) -> tuple[list[int], npt.NDArray[np.int64]]:
        """The token ids of a text, and the character of the text at which each begins."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        starts = np.array([start for start, _ in encoding.offsets], np.int64)
        return list(encoding.ids), starts

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens. Special tokens are left out unless `special` is set."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=not special))


def _token_id(value: Any) -> int | None:
    """A token id, the first of a list. None if it is none."""
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int and 0 <= first < 2**31 else None


def _template(value: Any) -> str | None:
    """The chat template. Of several named ones, transformers takes the one named default."""
    if isinstance(value, list):
        named = {t.get("name"): t.get("template") for t in value if isinstance(t, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None
