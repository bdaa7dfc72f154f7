# SPDX-License-Identifier: Apache-2.0
"""What a model's files say of its tokens, checked: a manifest has to hold it."""

from __future__ import annotations

from typing import Any

from gsqc.errors import ModelError

_TOKENS = ("eos_token_id", "bos_token_id", "end_token_ids")
_MOST_TOKENS = 256
"""Tokens that end a text."""


def checked_metadata(said: dict[str, Any], file: str) -> dict[str, Any]:
    """The metadata of a LoadedModel. ModelError if a token is none, or a text no Unicode."""
    checked = dict(said)
    for key in ("name", "license", "tokenizer"):
        value = said.get(key)
        checked[key] = _printable(value) if isinstance(value, str) else None
    for key in _TOKENS:
        if not _is_token(said.get(key)):
            raise ModelError(f"{file} has an {key} that is no token", "fetch the model again")
    checked["chat_template"] = _template(said.get("chat_template"), file)
    return checked


def _printable(text: str) -> str:
    """The text without zero bytes, and with marks where a file's name is not UTF-8."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _is_token(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST_TOKENS and all(type(part) is int for part in value)
    return value is None or (type(value) is int and abs(value) < 2**63)


def _template(value: Any, file: str) -> Any:
    """A template, or a list of named ones without their further fields. None if it is neither."""
    if isinstance(value, list):
        kept = [t for t in value if isinstance(t, dict)]
        return [{k: _template(t.get(k), file) for k in ("name", "template")} for t in kept]
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ModelError(
            f"{file} has a chat template with half of a surrogate pair", "fetch the model again"
        ) from None
    return value
