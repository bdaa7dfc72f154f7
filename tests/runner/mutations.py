# SPDX-License-Identifier: Apache-2.0
"""Seeded changes of a JSON text: what a stranger, a damaged disk or another program may write."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

RAW = "@raw@"
"""Stands for a text that json.dumps would not write."""
VALUES: tuple[Any, ...] = (
    *(None, True, "x", "", 1.5, 1.0, [], {}, [1], {"x": 1}),
    *(-1, 0, 1, 63, 2**31 - 1, 2**31, 2**40, 2**53, 2**63, 2**64, -(2**63)),
)
TEXTS = (
    *("NaN", "Infinity", "-Infinity", "-0", "1e999", "01", "'x'", "tru", "9" * 400, "1" * 5000),
    *(r'"\ud800"', r'"a\u0000b"', r'"\x41"', '"\t"', '"\x7f"', '"é"', r'"\ud83d\ude00"', "1,"),
    *("[" * 60 + "]" * 60, "[" * 100 + "]" * 100, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 3000),
)
Place = tuple[Any, Any]
"""A list or an object, and where in it."""


def places(value: Any) -> list[Place]:
    """The places right below a value."""
    if isinstance(value, dict):
        return [(value, key) for key in value]
    return [(value, k) for k in range(len(value))] if isinstance(value, list) else []


def choose(value: Any, rng: random.Random) -> Place:
    """A place in a tree: each level is as likely as the next, so that small parts are met too."""
    chosen = rng.choice(places(value))
    while (below := places(chosen[0][chosen[1]])) and rng.random() < 0.8:
        chosen = rng.choice(below)
    return chosen


def _all_texts(value: Any) -> list[str]:
    own = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
    inner = [t for box, key in places(value) for t in _all_texts(box[key])]
    return [t for t in own if isinstance(t, str)] + inner


def _delete(tree: Any, rng: random.Random) -> None:
    box, key = choose(tree, rng)
    del box[key]


def _replace(tree: Any, rng: random.Random) -> None:
    box, key = choose(tree, rng)
    box[key] = rng.choice(VALUES)


def _as_float(number: float) -> float:
    """A float of about that size. An int may be larger than any."""
    return float(max(min(number, 1e300), -1e300))


def _nudge(tree: Any, rng: random.Random) -> None:
    """A number a little off, or of the other sign. Other values become texts."""
    box, key = choose(tree, rng)
    old = box[key]
    number = type(old) is int
    box[key] = rng.choice((-old, old + 1, old - 1, old * 2, _as_float(old))) if number else str(old)


def _refer(tree: Any, rng: random.Random) -> None:
    """A name that stands elsewhere, in place of a value or of a key."""
    name = rng.choice(_all_texts(tree))
    box, key = choose(tree, rng)
    if isinstance(box, dict) and rng.random() < 0.5:
        box[name] = box.pop(key)
    else:
        box[key] = name


def _exchange(tree: Any, rng: random.Random) -> None:
    (a, i), (b, j) = choose(tree, rng), choose(tree, rng)
    a[i], b[j] = json.loads(json.dumps(b[j])), json.loads(json.dumps(a[i]))


def _repeat(tree: Any, rng: random.Random) -> None:
    """An element of a list once more, or a value under another name."""
    box, key = choose(tree, rng)
    if isinstance(box, list):
        box.append(box[key])
    else:
        box[f"{key}2"] = box[key]


CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (
    _delete,
    _replace,
    _replace,
    _nudge,
    _refer,
    _exchange,
    _repeat,
)


def _with_raw(tree: Any, rng: random.Random) -> str:
    box, key = choose(tree, rng)
    box[key] = RAW
    return json.dumps(tree).replace(json.dumps(RAW), rng.choice(TEXTS))


def _with_equal_names(tree: Any, rng: random.Random) -> str:
    while not isinstance((place := choose(tree, rng))[0], dict):
        pass
    box, key = place
    old, other = json.dumps(box[key]), json.dumps(rng.choice((box[key], 1, None)))
    box[key] = RAW
    return json.dumps(tree).replace(json.dumps(RAW), f"{old}, {json.dumps(key)}: {other}")


def _damaged(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return rng.choice(
        (
            content[:place],
            content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
            content + b"x",
            b"\xef\xbb\xbf" + content,
            b"",
            b"[]",
        )
    )


def mutate(content: bytes, seed: int) -> bytes:
    """A JSON text with one change."""
    rng, tree = random.Random(seed), json.loads(content)
    kind = seed % 8
    if kind == 5:
        return _with_raw(tree, rng).encode()
    if kind == 6:
        return _with_equal_names(tree, rng).encode()
    if kind == 7:
        return _damaged(content, rng)
    rng.choice(CHANGES)(tree, rng)
    return json.dumps(tree).encode()
