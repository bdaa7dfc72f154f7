# SPDX-License-Identifier: Apache-2.0
"""Plain text and Markdown: a file is a document."""

from __future__ import annotations

from collections.abc import Iterator

from gsqc.data.content import Content
from gsqc.data.examples import Document, Example
from gsqc.data.problems import Problems


def read_document(content: Content, problems: Problems) -> Iterator[tuple[str, Example]]:
    """The text of a file behind the file's name, unless it is blank. Raises DataError."""
    del problems  # a text cannot be malformed
    text = content.text()
    if text.strip():
        yield content.name, Document(text)
