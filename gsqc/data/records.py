# SPDX-License-Identifier: Apache-2.0
"""Records of a file of data: which shape they have, and what is in them.

messages [, tools] [, system]        a chat. `system` may be named `system_prompt`
conversations [, tools] [, system]   a chat in ShareGPT's form, whose turns have `from` and `value`
prompt, completion                   a prompt and what the model is to answer: texts, or messages
instruction [, input], output        Alpaca's, put into Alpaca's prompt
text                                 a document

Keys that change the meaning are honoured or refused (meanings.py). Others are counted. Where a
record fits several shapes, the first of this list wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gsqc.data.chat_records import (
    SYSTEM,
    read_conversation,
    read_conversational,
    read_messages,
    shown,
)
from gsqc.data.examples import Document, Example, Prompted, alpaca_prompt, is_unicode
from gsqc.data.meanings import refuse_meanings
from gsqc.data.problems import Nothing, Problems

SHAPES = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "prompt + completion": ("prompt", "completion"),
    "instruction + output": ("instruction", "output"),
    "text": ("text",),
}
"""Each shape with the keys that a record must have. Any of them shows the shape."""
_SHAPE_OF = {key: shape for shape, keys in SHAPES.items() for key in keys}
_RANKS = {shape: rank for rank, shape in enumerate(SHAPES)}
_FURTHER = {
    "messages": ("tools", *SYSTEM),
    "conversations": ("tools", *SYSTEM),
    "prompt + completion": (),
    "instruction + output": ("input", "system", "history"),
    "text": (),
}
"""Keys that a record of a shape may have beside."""
_USED = {shape: frozenset((*keys, *_FURTHER[shape])) for shape, keys in SHAPES.items()}
_CONVERSATIONAL = "prompt + completion of messages"
_USED[_CONVERSATIONAL] = frozenset(("prompt", "completion", "tools", *SYSTEM))

LABEL = "label"
"""The key of a text's label, on which a classifier is trained. A language model does not use it."""
MAY_BE_EMPTY = ("prompt", "completion", "instruction", "output", "text")
"""Keys of a text, whose empty cell in a table is an empty text."""
KEYS = tuple(dict.fromkeys(key for shape in SHAPES for key in (*SHAPES[shape], *_FURTHER[shape])))


@dataclass
class RecordReader:
    """Turns the records of one file into examples. All must have the shape of the first.

    unused  counts the records that have each key that is not used
    """

    unused: Counter[str] = field(default_factory=Counter)
    shape: str | None = field(default=None)

    def read(self, record: Any) -> Example:
        """The example that a record is. Raises ValueError, which says what is wrong with it.

        The error is Nothing if the record is well formed and has nothing to learn.
        """
        if not isinstance(record, dict):
            array = (
                " but an array (a file that is one array of records is named .json)"
                if isinstance(record, list)
                else ""
            )
            raise ValueError(f"not a JSON object{array}")
        shape = _shape(record)
        if self.shape not in (None, shape):
            raise ValueError(f"a record of {shape} in a file of {self.shape}")
        if len(record) > 2 or not _USED[shape].issuperset(record):
            refuse_meanings(record, shape)
            self.unused.update(key for key in record if key not in _USED[shape])
        example = _READERS[shape](record)
        self.shape = shape
        return example


def read_each(
    rows: Iterable[tuple[str, Any]],
    problems: Problems,
    parse: Callable[[Any], Any] | None = None,
    shape: str | None = None,
) -> Iterator[tuple[str, Example]]:
    """The examples of a file's rows, each behind its place. Malformed rows go to `problems`.

    parse  makes a record of a row. It may raise ValueError
    shape  of the rows before these, if there were any
    """
    reader = RecordReader(problems.unused, shape)
    for where, row in rows:
        try:
            example = reader.read(row if parse is None else parse(row))
        except (ValueError, RecursionError) as error:
            problems.note(where, error)
        else:
            yield where, example


def _shape(record: dict[str, Any]) -> str:
    """The shape of a record. Raises ValueError if it has none, or a part of one."""
    shapes = [_SHAPE_OF[key] for key in record if key in _SHAPE_OF]
    if not shapes:
        refuse_meanings(record, None)
        raise ValueError(f"the record has none of {', '.join(SHAPES)}")
    shape = min(shapes, key=_RANKS.__getitem__)
    missing = [key for key in SHAPES[shape] if key not in record]
    if missing:
        refuse_meanings(record, None)
        raise ValueError(f"the record has no {missing[0]}")
    has_messages = shape == "prompt + completion" and isinstance(record["prompt"], list)
    return _CONVERSATIONAL if has_messages else shape


def _text(record: dict[str, Any], key: str, *, empty: bool = True) -> str:
    value = record[key]
    if value is None and not empty:
        raise Nothing(f"the {key} is empty")
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text but {shown(value)}")
    if not is_unicode(value):
        raise ValueError(f"{key} has half of a surrogate pair")
    if "\0" in value:
        raise ValueError(f"{key} has a zero byte, so it is no text")
    if not empty and not value.strip():
        raise Nothing(f"the {key} is empty")
    return value


def _prompted(record: dict[str, Any]) -> Prompted:
    return Prompted(_text(record, "prompt"), _text(record, "completion", empty=False))


def _alpaca(record: dict[str, Any]) -> Prompted:
    instruction = _text(record, "instruction", empty=False)
    output = _text(record, "output", empty=False)
    given = "" if record.get("input") is None else _text(record, "input")
    return Prompted(alpaca_prompt(instruction, given), output, "alpaca")


def _document(record: dict[str, Any]) -> Document:
    return Document(_text(record, "text", empty=False), record.get(LABEL))


_READERS: dict[str, Callable[[dict[str, Any]], Example]] = {
    "messages": read_messages,
    "conversations": read_conversation,
    "prompt + completion": _prompted,
    _CONVERSATIONAL: read_conversational,
    "instruction + output": _alpaca,
    "text": _document,
}
