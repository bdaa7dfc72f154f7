# SPDX-License-Identifier: Apache-2.0
"""JSON from strangers, read by the letter. Both runtimes accept the same texts (runner/json.c).

Python's reader alone would take the last of two equal names, NaN, and half of a surrogate pair.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAXIMUM_DEPTH = 64
"""Lists and objects inside each other."""
_ODD_INTEGERS = re.compile(rb"-0(?![.0-9eE])|[0-9]{300}")


def read_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError if it is not JSON, if an object has a name twice, or if it is nested too
    deeply.
    """
    try:
        text = content.decode()
        # Python takes -0 for 0 and reads integers of any length. Few texts hold such a thing.
        integers = _integer if _ODD_INTEGERS.search(content) else None
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=_number,
            parse_int=integers,
        )
        if b"\\ud" in content.lower():
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return made


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else float(_refuse(text))


def _integer(text: str) -> int | float:
    number = _number(text)
    return -0.0 if text == "-0" else int(text) if abs(number) < 2.0**64 else number


def check_depth(value: Any) -> None:
    """Raise ValueError if lists and objects lie too deep inside each other."""
    level = [value]
    for _ in range(MAXIMUM_DEPTH):
        inner = [v.values() if type(v) is dict else v for v in level if type(v) in (dict, list)]
        level = [v for container in inner for v in container if type(v) in (dict, list)]
        if not level:
            return
    raise ValueError("nested too deeply")
