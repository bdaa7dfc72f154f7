# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a bundle or a model, with its special tokens and its chat template.

It works in a bounded process: the file is a stranger's, and the library aborts on some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.data.bounded_process import BoundedProcess, ProcessEnded
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.errors import BundleError, DataError
from gsqc.files.reading import read_file

MAXIMUM_TOKENIZER_BYTES = 64 << 20
"""Of a tokenizer.json. The largest in use, of 256k tokens, has 34 MB."""
_OTHER_MODEL = "this tokenizer is not to be trusted: use another model"
Int32 = npt.NDArray[np.int32]


class Tokenizer:
    """Text to tokens and back.

    eos                 the end-of-text token, the first of several, or None
    beginning           what the model's tokenizer puts before a text: BOS, or nothing
    chat_template       the model's own, a Jinja text, or None
    template_variables  the texts of bos_token and eos_token, as a chat template knows them

    Raises BundleError if the bundle has no tokenizer, or one that cannot be read. Every method
    raises it too, if the tokenizer fails or exceeds its limits of time and memory.
    """

    def __init__(self, bundle: Bundle) -> None:
        if "tokenizer.json" not in bundle.files:
            raise BundleError(
                "this bundle has no tokenizer, so it cannot read text",
                "compile a model directory that has a tokenizer.json, "
                "or give token ids through gsqc.runtime.Session",
            )
        try:
            file = bundle.file("tokenizer.json")
            text = read_file(file, most_bytes=MAXIMUM_TOKENIZER_BYTES, links=False).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise BundleError(
                f"cannot read the bundle's tokenizer.json: {reason}", "compile the model again"
            ) from None
        self._read(text, asdict(bundle.manifest.model))

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
        self.eos = _token_id(model.get("eos_token_id"))
        bos = _token_id(model.get("bos_token_id"))
        self.chat_template = _template(model.get("chat_template"))
        if len(tokenizer_json) > MAXIMUM_TOKENIZER_BYTES:
            most = MAXIMUM_TOKENIZER_BYTES >> 20
            raise BundleError(
                f"the model's tokenizer has more than {most} MiB, too much to be one", _OTHER_MODEL
            )
        ids = {"bos_token": bos, "eos_token": self.eos}
        special = {name: token for name, token in ids.items() if token is not None}
        begin = {"tokenizer_json": tokenizer_json, "special": special}
        try:
            self._process = BoundedProcess("tokenizer_process.py", begin)
        except (ProcessEnded, ValueError) as error:
            raise _failure(error) from None
        facts, _ = self._ask({})
        self.beginning: tuple[int, ...] = tuple(facts["beginning"])
        self.template_variables: dict[str, str] = {
            name: text for name, text in facts["texts"].items() if text is not None
        }

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            return self._process.ask(request)
        except (ProcessEnded, ValueError) as error:
            raise _failure(error) from None

    def encode_each(self, texts: Sequence[str]) -> list[Int32]:
        """The token ids of each text, without added special tokens."""
        return self._encode(texts, starts=False)

    def encode_each_with_starts(self, texts: Sequence[str]) -> list[tuple[Int32, Int32]]:
        """The token ids of each text, and the character of the text at which each begins."""
        halves = [part.reshape(2, -1) for part in self._encode(texts, starts=True)]
        return [(ids, starts) for ids, starts in halves]

    def _encode(self, texts: Sequence[str], *, starts: bool) -> list[Int32]:
        for text in texts:
            if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
                raise DataError("a text has half of a surrogate pair", "write the text as UTF-8")
        if not texts:
            return []
        answer, raw = self._ask({"encode": list(texts), "starts": starts})
        ends = np.cumsum(answer["counts"], dtype=np.int64) * (1 + starts)
        return np.split(np.frombuffer(raw, np.int32), ends[:-1])

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without added special tokens."""
        ids: list[int] = self.encode_each([text])[0].tolist()
        return ids

    def encode_prompt(self, prompt: str, end: str = DEFAULT_END) -> list[int]:
        """A prompt as training and generation see it: the beginning, the text and its end.

        If prompt and beginning are empty, the end of text stands before what follows.
        """
        if prompt:
            return [*self.beginning, *self.encode(prompt + end)]
        return list(self.beginning) or ([] if self.eos is None else [self.eos])

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens. Special tokens are left out unless `special` is set."""
        ids = [int(token) for token in tokens]
        return str(self._ask({"decode": ids, "special": special})[0]["text"])


def _failure(error: ProcessEnded | ValueError) -> BundleError:
    if isinstance(error, ProcessEnded):
        return BundleError(f"the model's tokenizer ended its process ({error})", _OTHER_MODEL)
    return BundleError(f"the model's tokenizer is damaged: {error}", _OTHER_MODEL)


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
