# SPDX-License-Identifier: Apache-2.0
"""The text and JSON files of a model's directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gsqc.errors import ModelError
from gsqc.files.reading import read_file

_MAXIMUM_BYTES = 64 << 20
"""The largest are tokenizers, of 34 MB."""


def read_text(path: Path) -> str | None:
    """The text of a file, or None if there is none. Raises ModelError."""
    if not path.is_file():
        return None
    try:
        return read_file(path, most_bytes=_MAXIMUM_BYTES).decode("utf-8")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", "check the file") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path.name} is not UTF-8", "fetch the file again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} if there is no file. Raises ModelError."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
        raise ModelError(f"{path.name} is not JSON: {reason}", "fetch the file again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} does not hold an object", "fetch the file again")
    return content


def first_line(error: Exception) -> str:
    """The first line of an error's text, at most 200 characters, without halves of pairs."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].encode("utf-8", "replace").decode()
