# SPDX-License-Identifier: Apache-2.0
"""Makes text of strangers safe to print."""

from __future__ import annotations

from unicodedata import category


def printable(text: str) -> str:
    """The text with a replacement character for each control character, newline and tab aside.

    A stranger's file may hold some that a terminal obeys.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in text
    )
