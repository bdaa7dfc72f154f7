# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a bundle or a model, with its special tokens and its chat template.

It works in a bounded process: the file is a stranger's, and the library aborts on some.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.data.bounded_process import BoundedProcess, ProcessEnded, Start
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.errors import BundleError, DataError
from gsqc.files.reading import read_file

MAXIMUM_TOKENIZER_BYTES = 64 << 20
"""Of a tokenizer.json. The largest in use, of 256k tokens, has 34 MB."""
_OTHER_MODEL = "this tokenizer is not to be trusted: use another model"
_END_TOKENS = 64
"""Of a text that are looked at to find its end: an end of text, and white space behind it."""
_FIELDS = (
    *("eos_token_id", "bos_token_id", "end_token_ids", "vocabulary", "special_tokens"),
    *("chat_template", "labels"),
)
"""Of a model, those that its tokenizer depends on."""
Int32 = npt.NDArray[np.int32]


class Tokenizer:
    """Text to tokens and back.

    eos                 the end-of-text token, the first of several, or None
    eos_text            its text, or None
    end_texts           the texts of the control tokens that end what the model generates
    beginning           what the model's tokenizer puts before a text: BOS, or nothing
    identity            a digest of all that its tokens depend on
    chat_template       the model's own, a Jinja text, several of them by name, or None
    template_variables  the texts of bos_token, eos_token and others, as a chat template knows them

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
        self._read(partial(_text_of, bundle), asdict(bundle.manifest.model), BoundedProcess)

    @classmethod
    def of_model(
        cls, tokenizer_json: str, metadata: dict[str, Any], start: Start = BoundedProcess
    ) -> Tokenizer:
        """The tokenizer that a bundle of a model would have.

        metadata  what the reader of the model gives: the fields of `manifest.ModelPart`
        start     starts the process that holds it

        Raises BundleError.
        """
        tokenizer = cls.__new__(cls)
        tokenizer._read(lambda: tokenizer_json, metadata, start)
        return tokenizer

    def begin(self) -> dict[str, Any]:
        """What `of_model` makes the same tokenizer of: {tokenizer_json, model}. BundleError."""
        return {"tokenizer_json": self._text(), "model": self._model}

    def _read(self, text: Callable[[], str], model: dict[str, Any], start: Start) -> None:
        tokenizer_json = text()
        self._text = text  # not the text itself, which may have 34 MB
        self._model = {name: model.get(name) for name in _FIELDS}
        self.eos = _token_id(model.get("eos_token_id"))
        self._vocabulary: int | None = model.get("vocabulary")
        self.chat_template = _template(model.get("chat_template"))
        made_of = json.dumps([tokenizer_json, model], sort_keys=True, default=str)
        self.identity = hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()
        if len(tokenizer_json) > MAXIMUM_TOKENIZER_BYTES:
            most = MAXIMUM_TOKENIZER_BYTES >> 20
            raise BundleError(
                f"the model's tokenizer has more than {most} MiB, too much to be one", _OTHER_MODEL
            )
        named_ids = {"bos_token": _token_id(model.get("bos_token_id")), "eos_token": self.eos}
        special = {name: token for name, token in named_ids.items() if token is not None}
        named: dict[str, str] | None = model.get("special_tokens")
        begin = {"tokenizer_json": tokenizer_json, "special": special}
        begin["named"] = sorted(set((named or {}).values()))
        try:
            self._process = start("tokenizer_process.py", begin)
        except (ProcessEnded, ValueError) as error:
            raise _failure(error) from None
        facts, _ = self._ask({})
        self.beginning: tuple[int, ...] = tuple(facts["beginning"])
        self.ending: tuple[int, ...] = tuple(facts["ending"])
        labels = model.get("labels")
        self.labels: tuple[str, ...] | None = None if labels is None else tuple(labels)
        self._control: dict[str, int] = facts["control"]
        ids = {*_listed(model.get("eos_token_id")), *_listed(model.get("end_token_ids"))}
        self.end_texts = [text for text, token in self._control.items() if token in ids]
        texts = {name: text for name, text in facts["texts"].items() if text is not None}
        self.eos_text: str | None = texts.get("eos_token")
        self.template_variables: dict[str, str] = texts if named is None else dict(named)

    def control_tokens(self) -> dict[str, int]:
        """The texts that the tokenizer reads as control tokens wherever they stand, with their ids.

        A text of a user that holds one of them becomes that token.
        """
        return dict(self._control)

    def _ask(self, request: dict[str, Any], raw: bytes = b"") -> tuple[dict[str, Any], bytes]:
        try:
            return self._process.ask(request, raw)
        except (ProcessEnded, ValueError) as error:
            raise _failure(error) from None

    def encode_each(self, texts: Sequence[str]) -> list[bytes]:
        """The token ids of each text, without added special tokens: int32 as bytes.

        For many short texts, making arrays would take most of the time.
        """
        return self._encode(texts, ranges=False)

    def encode_each_with_ranges(self, texts: Sequence[str]) -> list[tuple[Int32, Int32, Int32]]:
        """The token ids of each text, and the characters [start, end) that each stands for.

        Tokens of one character, such as its bytes, have the same range.
        """
        parts = [np.frombuffer(part, np.int32) for part in self._encode(texts, ranges=True)]
        thirds = [(ids, starts, ends) for ids, starts, ends in (p.reshape(3, -1) for p in parts)]
        for ids, _, _ in thirds:
            self._require_known(ids)
        return thirds

    def _encode(self, texts: Sequence[str], *, ranges: bool) -> list[bytes]:
        if not texts:
            return []
        try:
            parts = [text.encode() for text in texts]
        except UnicodeEncodeError:
            raise DataError(
                "a text has half of a surrogate pair", "write the text as UTF-8"
            ) from None
        request = {"encode": [*map(len, parts)], "ranges": ranges}
        answer, raw = self._ask(request, b"".join(parts))
        if not ranges:
            self._require_known(np.frombuffer(raw, np.int32))
        size = 12 if ranges else 4
        ends = accumulate((size * count for count in answer["counts"]), initial=0)
        return [raw[start:end] for start, end in pairwise(ends)]

    def _require_known(self, ids: Int32) -> None:
        """DataError for a token that the model does not have."""
        largest = int(ids.max(initial=-1))
        if self._vocabulary is None or largest < self._vocabulary:
            return
        text = self.decode([largest], special=True)
        raise DataError(
            f"the tokenizer reads {text!r} as token {largest}, and the model has "
            f"{self._vocabulary} tokens",
            "take that text out of the data, or compile the model with the tokenizer that belongs "
            "to it",
        )

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without added special tokens."""
        ids: list[int] = np.frombuffer(self.encode_each([text])[0], np.int32).tolist()
        return ids

    def encode_prompt(self, prompt: str, end: str = DEFAULT_END) -> list[int]:
        """A prompt as training and generation see it: the beginning, the text and its end.

        A beginning that the prompt has already is not doubled. If both are empty, the end of text
        stands before what follows.
        """
        if prompt:
            tokens = self.encode(prompt + end)
            begun = tuple(tokens[: len(self.beginning)]) == self.beginning
            return tokens if begun else [*self.beginning, *tokens]
        return list(self.beginning) or ([] if self.eos is None else [self.eos])

    def is_ended(self, text: str, ids: bytes) -> bool:
        """Whether a text with these tokens ends with the end of text, or with spaces behind it."""
        end = self.eos_text
        if not end or not text.rstrip().endswith(end):
            return False
        return self.eos in np.frombuffer(ids, np.int32)[-_END_TOKENS:]

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens. Special tokens are left out unless `special` is set."""
        ids = [int(token) for token in tokens]
        return str(self._ask({"decode": ids, "special": special})[0]["text"])


def _text_of(bundle: Bundle) -> str:
    """The text of a bundle's tokenizer.json. Raises BundleError."""
    try:
        file = bundle.file("tokenizer.json")
        return read_file(file, most_bytes=MAXIMUM_TOKENIZER_BYTES, links=False).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BundleError(
            f"cannot read the bundle's tokenizer.json: {reason}", "compile the model again"
        ) from None


def _failure(error: ProcessEnded | ValueError) -> BundleError:
    if isinstance(error, ProcessEnded):
        return BundleError(f"the model's tokenizer ended its process ({error})", _OTHER_MODEL)
    return BundleError(f"the model's tokenizer is damaged: {error}", _OTHER_MODEL)


def _token_id(value: Any) -> int | None:
    """A token id, the first of a list. None if it is none."""
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int and 0 <= first < 2**31 else None


def _listed(value: Any) -> list[int]:
    """A token or a list of tokens as a list. What is none is left out."""
    return [
        token for token in (value if isinstance(value, list) else [value]) if type(token) is int
    ]


def _template(value: Any) -> str | dict[str, str] | None:
    """The chat template, or several by name. As in transformers, one named default is the only."""
    if isinstance(value, list):
        parts = [(t.get("name"), t.get("template")) for t in value if isinstance(t, dict)]
        named = {n: t for n, t in parts if isinstance(n, str) and isinstance(t, str)}
        return named["default"] if list(named) == ["default"] else named or None
    return value if isinstance(value, str) else None
