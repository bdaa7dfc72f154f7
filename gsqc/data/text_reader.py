# SPDX-License-Identifier: Apache-2.0
"""Plain text and Markdown files: each is one document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gsqc.data.files import read_text
from gsqc.data.problems import Problems
from gsqc.data.records import Document, Example


def read_document(path: Path, problems: Problems) -> Iterator[tuple[str, Example]]:
    """The file's text, unless there is none. Raises DataError."""
    del problems  # a text has no form that could be wrong
    text = read_text(path)
    if text.strip():
        yield path.name, Document(text)
