# SPDX-License-Identifier: Apache-2.0
"""Seeded changes of files: of any bytes, of JSON, of texts, of safetensors and of GGUF headers.

Our own generators and not hypothesis: a case is a number, which reproduces it in any process, and a
change takes microseconds. Shrinking is not needed, because each case makes one change or two.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from tests.runner.mutations import CHANGES, RAW, TEXTS, choose, places

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    *(-1, 0, 1, 2, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1),
    *(2**63, 2**64, 2**64 - 1, -(2**31), -(2**63), -(2**63) - 1, 10**30, 10**400),
)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *(None, True, False, 0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf")),
    *("", "x", "\0", "a/b", "../../x", "/", ".", "\ud800", "\udc00x", "é" * 300, "x" * 70000, "\n"),
    *("1e999999999", "1/0", "NaN", "-1", "1_0", "٣", "²", "0x10", "1e-400", "[red]", "{{ 1/0 }}"),
    *(
        [],
        {},
        [[]],
        [None],
        [1, "x"],
        {"x": 1},
        {"": None},
        [[1]],
        [{}],
        ["x"] * 9,
        {"a": {"b": []}},
    ),
)
"""What a reader may not expect in a field: every type, and the ends of every range."""
LITERALS = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 5000,
        "0x7fffffff",
        "1979-05-27T07:32:00Z",
        "true",
        "[]",
    ),
    *(
        "{}",
        '""',
        "'x'",
        '"\\ud800"',
        '"\\u0000"',
        '"""',
        "[[[[",
        "{a = 1}",
        "-1",
        "0.5",
        "1.5e300",
    ),
    *(
        "18446744073709551616",
        '["x", 1]',
        '"x"' * 2,
        "2147483648",
        '"/dev/zero"',
        '"a\\nb"',
        "=",
        "#",
    ),
)
"""Values as TOML writes them, or nearly."""
FRAGMENTS = (
    *("{{ 'a' * 10**10 }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 1/0 }}", "{% if %}"),
    *("{{ messages.__class__.__mro__ }}", "{{ raise_exception('no\nway') }}", "{{ 10**10**8 }}"),
    *("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% generation %}", "{% endfor %}", "{#"),
    *(
        "{{ messages[99].x.y }}",
        "{{ ''.join(messages) }}",
        "{% include 'x' %}",
        "{{ '%999999d' % 1 }}",
    ),
    *("{% set x = namespace(a=1) %}{% set x.a = x %}{{ x }}", "\udc00", "\0", "{{ '\\ud800' }}"),
    *(
        "{{ messages | tojson(indent=10**9) }}",
        "{{ range(10**12) | list }}",
        "{{ lipsum(n=10**8) }}",
    ),
)
"""Parts of hostile chat templates."""


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """One change of bytes: a flip, a cut, an insertion, a repeated, lost or exchanged part."""
    if not content:
        return rng.randbytes(rng.randrange(64))
    at = rng.randrange(len(content))
    end = min(len(content), at + rng.choice((1, 2, 4, 8, 64, 1024)))
    part = content[at:end]
    other = rng.choice((b"\0", b"\xff", b"\n", b"[", b'"', b"{", b"\\", b"\xed\xa0\x80", b"9" * 20))
    return rng.choice(
        (
            content[:at],
            content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
            content[:at] + rng.randbytes(end - at) + content[end:],
            content[:at] + other + content[at:],
            content[:at] + other * (end - at) + content[end:],
            content[:at] + part * rng.choice((2, 3, 200)) + content[end:],
            content[:at] + content[end:],
            content + part,
            part + content,
            rng.choice(
                (b"", b"\xef\xbb\xbf" + content, b"\xff\xfe" + content, b"\0" * len(content))
            ),
        )
    )


def garbage(content: bytes, rng: random.Random) -> bytes:
    """Random bytes, half of the time behind the first few of the file."""
    start = content[: rng.choice((4, 8, 16, 64))] if rng.random() < 0.5 else b""
    return start + rng.randbytes(rng.choice((0, 1, 8, 64, 512, 4096, 1 << 16)))


def change_tree(tree: Any, rng: random.Random) -> None:
    """One change below the top of a JSON value: half of them put an odd value into a place."""
    if not places(tree):
        return
    if rng.random() < 0.6:
        box, key = choose(tree, rng)
        box[key] = rng.choice(VALUES)
    else:
        rng.choice(CHANGES)(tree, rng)


def change_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON text with an odd value, an odd text, a repeated name, or other bytes."""
    kind = rng.random()
    tree = json.loads(content)
    if kind < 0.15 or not places(tree):
        return change_bytes(content, rng)
    if kind < 0.3:
        box, key = choose(tree, rng)
        named = isinstance(box, dict) and rng.random() < 0.4
        odd = f"1, {json.dumps(key)}: {json.dumps(box[key])}" if named else rng.choice(TEXTS)
        box[key] = RAW
        return json.dumps(tree).replace(json.dumps(RAW), odd).encode("utf-8", "surrogatepass")
    if kind < 0.35:
        return json.dumps(rng.choice(VALUES)).encode()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change_tree(tree, rng)
        tree = json.loads(json.dumps(tree))  # a change may put a part into itself
    return json.dumps(tree, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")


def change_jsonl(content: bytes, rng: random.Random) -> bytes:
    """A file of JSON lines in which a line is changed, or the order of the lines."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    kind = rng.random()
    if kind < 0.8:
        lines[at] = change_json(lines[at], rng)
    elif kind < 0.9:
        rng.shuffle(lines)
    else:
        lines.insert(at, rng.choice((b"", b" ", b"null", b"[]", lines[at][:9], lines[at] * 2)))
    return rng.choice((b"\n", b"\n", b"\r\n", b"\r")).join(lines) + b"\n"


def change_text(content: bytes, rng: random.Random) -> bytes:
    """A text, such as TOML: a value becomes another, a line moves, or bytes change."""
    lines = content.decode().splitlines()
    at, kind = rng.randrange(len(lines)), rng.random()
    if kind < 0.55:
        settings = [k for k, line in enumerate(lines) if "=" in line and line[:1] != "#"] or [at]
        at = rng.choice(settings)
        lines[at] = f"{lines[at].split('=')[0]}= {rng.choice(LITERALS)}"
    elif kind < 0.65:
        lines[at] = re.sub(
            r"\w+", rng.choice(("x", "a.b", '"é"', "data", "[train]")), lines[at], count=1
        )
    elif kind < 0.75:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind < 0.85:
        lines.insert(
            at, rng.choice(("[x]", "[[train]]", "[train.x]", "x", "a.b.c = 1", "[" * 5000))
        )
    else:
        return change_bytes(content, rng)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def change_template(content: bytes, rng: random.Random) -> bytes:
    """A chat template with a hostile part in it, or other bytes."""
    if rng.random() < 0.5:
        return change_bytes(content, rng)
    at = rng.randrange(len(content) + 1)
    part = rng.choice(FRAGMENTS).encode("utf-8", "surrogatepass")
    return content[:at] + part + content[at:]


def change_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another header, another length of it, or other bytes."""
    kind, end = rng.random(), 8 + int.from_bytes(content[:8], "little")
    if kind < 0.1:
        return change_bytes(content, rng)
    if kind < 0.2:  # numbers at the ends of their range, such as exponents
        at = rng.randrange(end, len(content))
        size = min(rng.choice((4, 64, 1 << 20)), len(content) - at)
        return (
            content[:at]
            + rng.choice((b"\x7f", b"\x80", b"\xff", b"\0")) * size
            + content[at + size :]
        )
    if kind < 0.3:
        length = rng.choice((0, 1, 2, end, len(content), 10**8, 2**31, 2**63, 2**64 - 1))
        return length.to_bytes(8, "little") + content[8:]
    header = change_json(content[8:end], rng)
    return len(header).to_bytes(8, "little") + header + content[end:]


def change_gguf(content: bytes, rng: random.Random, fields: Sequence[tuple[int, int]]) -> bytes:
    """A GGUF file in which a number or a text of the header is another. `fields` says where."""
    if rng.random() < 0.2:
        return change_bytes(content, rng)
    at, size = rng.choice(fields)
    codes = {1: "B", 2: "H", 4: "I", 8: "Q"}
    if size in codes:
        new = struct.pack(f"<{codes[size]}", rng.choice(NUMBERS) % (1 << 8 * size))
    else:
        new = rng.choice((b"\xff", b"\0", b"%", b"x")) * size
    return content[:at] + new + content[at + size :]
