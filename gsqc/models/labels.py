# SPDX-License-Identifier: Apache-2.0
"""The names of a classifier's classes, as `--labels` writes them."""

from __future__ import annotations

from collections.abc import Sequence

from gsqc.errors import OptionError

MOST_LABELS = 1 << 12
"""Classes of a classifier. Their logits exist whole."""
_LONGEST = 200


def numbered(count: int) -> tuple[str, ...]:
    """The names of classes that have none: 0, 1, 2, …"""
    return tuple(map(str, range(count)))


def require_labels(text: str) -> tuple[str, ...]:
    """The names in a text: with commas between, or a number of classes. Raises OptionError."""
    if text.isascii() and text.isdecimal() and len(text) < 9:
        count = int(text)
        if not 2 <= count <= MOST_LABELS:
            raise OptionError(f"--labels {count}", f"a classifier has 2 to {MOST_LABELS} classes")
        return numbered(count)
    return require_names([name.strip() for name in text.split(",")])


def require_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of classes. Raises OptionError if they cannot be that."""
    names = tuple(given)
    if not 2 <= len(names) <= MOST_LABELS:
        raise OptionError(
            f"{len(names)} labels are named", f"name 2 to {MOST_LABELS} of them: --labels no,yes"
        )
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise OptionError(f"two labels are named {twice!r}", "give each label a name of its own")
    if any(not name or len(name) > _LONGEST or not name.isprintable() for name in names):
        raise OptionError(
            "the name of a label is empty, too long or not printable",
            "name them with commas between: --labels no,yes",
        )
    return names
