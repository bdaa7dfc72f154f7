# SPDX-License-Identifier: Apache-2.0
"""The text that ends a prompt, before its completion, and how an option spells it."""

from __future__ import annotations

import re

from gsqc.errors import OptionError
from gsqc.values import is_text, shown

DEFAULT_END = "\n"
"""What stands between a prompt and its completion, unless --prompt-end says otherwise."""
MOST_END = 256
"""Characters of such a text."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescaped(text: str) -> str:
    """The text that an option means. A backslash with n, t, r or another backslash is one sign.

    Raises OptionError.
    """
    parts = re.split(r"\\(.?)", text, flags=re.DOTALL)
    unknown = [part for part in parts[1::2] if part not in _ESCAPES]
    if unknown:
        raise OptionError(
            f"--prompt-end {shown(text)} has the escape \\{unknown[0]}",
            r"it knows \n, \t, \r and \\",
        )
    parts[1::2] = [_ESCAPES[part] for part in parts[1::2]]
    return "".join(parts)


def escaped(text: str) -> str:
    """The text as `unescaped` takes it."""
    for sign, character in sorted(_ESCAPES.items(), key=lambda pair: pair[1] != "\\"):
        text = text.replace(character, f"\\{sign}")
    return text


def require_end(text: str) -> str:
    """The text that ends a prompt. OptionError if it is too long, or no text."""
    if not is_text(text) or "\0" in text or len(text) > MOST_END:
        raise OptionError(
            f"--prompt-end {shown(text)} is not a text of up to {MOST_END} characters",
            r"give a short one, such as \n",
        )
    return text
