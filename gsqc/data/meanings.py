# SPDX-License-Identifier: Apache-2.0
"""Keys that other tools give a meaning. gsqc honours them or refuses them by name.

Ignoring one would train something else than the file says. docs/data.md names the tools and where
they document their keys. On a message or turn, these say whether it is learned:

weight             0 or 1: OpenAI, Mistral, Together
train, training    true or false: axolotl
train_on_turn      true or false: Home-LLM
loss, loss_scale   true or false, and 0 or 1, on the assistant's messages alone: ms-swift
loss_weight        0 or 1: LLaMA-Factory
masked             true for no loss: torchtune

Other keys have a meaning in records of some shapes only. A `label` beside a text is a column like
any other, and beside a completion it rates the answer. So each shape has its own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsqc.data.problems import Nothing

_LEARNED = ("weight", "train", "training", "train_on_turn", "loss", "loss_scale", "loss_weight")
_OF_THE_ASSISTANT = ("loss", "loss_scale")
_NOT_LEARNED = "masked"
FLAGS = (*_LEARNED, _NOT_LEARNED)

_SYSTEM = '{"role": "system", "content": …}'
_TURNS = '{"role": "user", "content": …}, {"role": "assistant", "content": …}'
_NO_PLACE = "this form has no place for it: write"
_TEMPLATE = "the chat template is rendered without it: write the record as text"
_MASK = (
    "gsqc makes the mask itself: write messages, with weight 0 on those that are not to be learned"
)
_PICTURES = {
    **dict.fromkeys(
        ("image", "images"), "only gsqc train --images FILE reads images, see docs/images.md"
    ),
    **dict.fromkeys(("audio", "audios", "video", "videos"), "gsqc reads texts and images only"),
}
_ANSWERS = dict.fromkeys(
    (
        *("chosen", "chosen_messages", "rejected", "rejected_messages", "rejected_response"),
        "rejected_images",
        *("preferred_output", "non_preferred_output", "positive_messages", "negative_messages"),
    ),
    "preferences are not trained on: keep the better answer as the completion, and no other",
)
_RATINGS = dict.fromkeys(
    ("label", "kto_tag"),
    "nothing is learned from bad answers: keep the records where it is true, without the key",
)
_WEIGHTS = dict.fromkeys(
    ("weight", "sample_weight", "loss_weight"), "all records count alike: leave it out"
)
_MASKS = dict.fromkeys(("completion_mask", "assistant_masks", "loss_mask"), _MASK)

_OF_ALL = {**_ANSWERS, **_MASKS}
_OF_ANSWERS = {**_RATINGS, **_WEIGHTS, **_PICTURES}
"""Of every shape but a text, whose other columns say nothing of what is learned."""
_OF_CHATS = {
    **dict.fromkeys(("chat_template_kwargs", "documents", "enable_thinking"), _TEMPLATE),
    "functions": 'write them as "tools": [{"type": "function", "function": …}]',
    "available_tools": "name it tools",
    "only_last": "give the assistant's messages before the last weight 0",
}
_OF_PLAIN = {
    **dict.fromkeys(
        ("system", "system_prompt"), f'{_NO_PLACE} {{"messages": [{_SYSTEM}, {_TURNS}]}}'
    ),
    "history": f'{_NO_PLACE} {{"messages": [{_TURNS}, …]}}, two messages for each round',
    "tools": f'{_NO_PLACE} {{"messages": [{_TURNS}], "tools": […]}}',
}
_OF_NONE = {
    "segments": _MASK,
    "input_ids": "gsqc makes the tokens itself: write the text",
    "completions": "steps are not rated: write one completion",
}
_BY_SHAPE: dict[str | None, dict[str, str]] = {
    "text": {},
    "messages": {**_OF_ANSWERS, **_OF_CHATS},
    "conversations": {**_OF_ANSWERS, **_OF_CHATS},
    "prompt + completion of messages": {**_OF_ANSWERS, **_OF_CHATS},
    "prompt + completion": {**_OF_ANSWERS, **_OF_PLAIN},
    "instruction + output": {**_OF_ANSWERS, **_OF_PLAIN},
    None: {**_RATINGS, **_PICTURES, **_OF_NONE},
}
_OF_MESSAGES = {
    **_PICTURES,
    **dict.fromkeys(("train_detail", "training_detail", "loss_mask"), _MASK),
    "function_call": 'write it as "tool_calls": [{"type": "function", "function": …}]',
    "refusal": "write it as the content",
}
MEANT = frozenset((*_OF_ALL, "labels", *(key for table in _BY_SHAPE.values() for key in table)))
"""Keys of a record that may have a meaning."""


def refuse_keys(message: Mapping[str, Any]) -> None:
    """Raise ValueError for a key of a message that gsqc cannot honour."""
    _refuse(message, _OF_MESSAGES)


def refuse_meanings(record: Mapping[str, Any], shape: str | None) -> None:
    """Raise ValueError for a key of a record that gsqc cannot honour. Nothing for a weight of 0.

    shape  of the record (`records.SHAPES`), or None if it has none
    """
    if "input_ids" in record and record.get("labels"):
        raise ValueError("the key labels is not supported (gsqc makes the tokens itself)")
    table = _BY_SHAPE[shape]
    if "weight" in table and _number(record.get("weight")) == 0:
        raise Nothing("the record's weight is 0")
    _refuse(record, {**_OF_ALL, **table})


def _refuse(given: Mapping[str, Any], table: Mapping[str, str]) -> None:
    for key, value in given.items():
        if key in table and _has_meaning(key, value):
            raise ValueError(f"the key {key} is not supported ({table[key]})")


def _has_meaning(key: str, value: Any) -> bool:
    """Whether a key with this value says something."""
    if value in (None, "", [], {}) or (isinstance(value, str) and not value.strip()):
        return False
    if key == "label":  # else it names a class. CSV has True and False as texts
        return isinstance(value, bool) or value in ("True", "False")
    if key in _WEIGHTS:
        return _number(value) not in (None, 1)
    if key in (*_ANSWERS, "only_last", *_PICTURES):
        return value is not False and not (key in _ANSWERS and isinstance(value, int | float))
    return True


def _number(value: Any) -> float | None:
    """A number, also one in a cell of a table of texts. None for everything else."""
    try:
        return float(value) if isinstance(value, bool | int | float | str) else None
    except (ValueError, OverflowError):
        return None


def is_learned(message: Mapping[str, Any], number: int) -> bool | None:
    """Whether a message's flags say that it has a loss. None if it has no flag.

    Raises ValueError for a flag of another value, and for two that differ.
    """
    found: bool | None = None
    for key in FLAGS:
        value = message.get(key)
        if value is None or (key in _OF_THE_ASSISTANT and message.get("role") != "assistant"):
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise ValueError(f"message {number} has {key} {str(value)[:20]}, gsqc takes 0 or 1")
        learned = bool(value) != (key == _NOT_LEARNED)
        if found not in (None, learned):
            raise ValueError(f"message {number} has flags that differ ({', '.join(FLAGS)})")
        found = learned
    return found


def without_flags(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a chat template sees it."""
    return {key: value for key, value in message.items() if key not in FLAGS}
