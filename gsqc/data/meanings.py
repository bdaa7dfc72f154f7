# SPDX-License-Identifier: Apache-2.0
"""Keys that other tools give a meaning: whether a turn is learned, and what gsqc must refuse.

weight             0 or 1 on a message: OpenAI, Mistral, Together
train, training, train_on_turn, loss   true or false on a message or turn: axolotl, ms-swift
masked             true or false on a message, true for no loss: torchtune

A key that gsqc cannot honour is refused by name, if it has a value. Ignoring it would train
something else than the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEARNED = ("weight", "train", "training", "train_on_turn", "loss")
_NOT_LEARNED = "masked"
FLAGS = (*_LEARNED, _NOT_LEARNED)

_PREFERENCE = "preferences are not trained on: keep the chosen answer as a completion"
_ALPACA = "Alpaca's prompt has no place for it: write the record as messages"
_PICTURES = "gsqc reads text only"
_MASK = "write the record as messages, with weight 0 on turns that are not to be learned"
_TEMPLATE = "the chat template is rendered without it: write the record as text"
REFUSED = {
    **dict.fromkeys(
        (
            *("chosen", "rejected", "rejected_messages", "rejected_response", "kto_tag"),
            *("preferred_output", "non_preferred_output"),
        ),
        _PREFERENCE,
    ),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), _PICTURES),
    **dict.fromkeys(
        ("completion_mask", "assistant_masks", "loss_mask", "labels", "segments", "train_detail"),
        _MASK,
    ),
    **dict.fromkeys(("chat_template_kwargs", "documents", "enable_thinking"), _TEMPLATE),
    **dict.fromkeys(("functions", "function_call"), "write it as tools and tool_calls"),
}
"""Keys of a record or message that change what is trained, with what to do instead."""
_RECORD_WEIGHTS = ("weight", "sample_weight", "loss_weight")


def refuse_keys(given: Mapping[str, Any]) -> None:
    """Raise ValueError for a key of a record or message that gsqc cannot honour."""
    for key in given:
        if key in REFUSED and given[key] not in (None, "", [], {}):
            raise ValueError(f"the key {key} is not supported ({REFUSED[key]})")


def refuse_meanings(record: Mapping[str, Any]) -> None:
    """As `refuse_keys`, also for the keys that mean something on a whole record alone."""
    refuse_keys(record)
    for key in ("system", "history") if "instruction" in record else ():
        if record.get(key):
            raise ValueError(f"the key {key} is not supported ({_ALPACA})")
    for key in _RECORD_WEIGHTS:
        if record.get(key) not in (None, 1):
            raise ValueError(f"the key {key} is not supported (all records count alike)")
    if isinstance(record.get("label"), bool):
        raise ValueError(f"the key label is not supported ({_PREFERENCE})")


def is_learned(message: Mapping[str, Any], number: int) -> bool | None:
    """Whether a message's flags say that it has a loss. None if it has no flag.

    Raises ValueError for a flag of another value, and for two that differ.
    """
    found: bool | None = None
    for key in FLAGS:
        value = message.get(key)
        if value is None:
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
