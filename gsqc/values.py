# SPDX-License-Identifier: Apache-2.0
"""Checks single values that a user gives, and shows them in errors."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from gsqc.errors import OptionError

_LONGEST_SHOWN = 200


def unboxed(value: Any) -> Any:
    """A single number of numpy or torch as Python's own. Any other value as it is."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    return value.item()


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether a value is a whole number in a range. True and False are none."""
    return type(value) is int and least <= value <= most


def require_whole(name: str, value: Any, least: int, most: int) -> int:
    """The value as Python's int. OptionError unless it is a whole number in the range."""
    value = unboxed(value)
    if not is_whole(value, least, most):
        raise OptionError(
            f"{name} {shown(value)} is not a whole number from {least} to {most}", "give such a one"
        )
    return int(value)


def require_truth(name: str, value: Any) -> bool:
    """The value as Python's bool. OptionError unless it is true or false: "no" would be true."""
    value = unboxed(value)
    if type(value) is not bool:
        raise OptionError(f"{name} {shown(value)} is not true or false", "give True or False")
    return value


def require_function(name: str, value: Any) -> None:
    """OptionError unless the value can be called."""
    if not callable(value):
        raise OptionError(f"{name} {shown(value)} is no function", "give a function")


def is_text(value: Any) -> bool:
    """Whether a value is a text in UTF-8. Python's texts may hold other bytes, as in names."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def require_text(name: str, value: Any) -> None:
    """OptionError unless the value is a text in UTF-8."""
    if not is_text(value):
        raise OptionError(f"{name} {shown(value)} is not a text in UTF-8", "give whole characters")


def is_path(value: Any) -> bool:
    """Whether a value can name a file that settings can name too: in UTF-8, without zero bytes."""
    return isinstance(value, str | PurePath) and is_text(str(value)) and "\0" not in str(value)


def as_path(name: str, value: Any) -> Path:
    """The value as a path. OptionError if it can name no file."""
    if not is_path(value):
        raise OptionError(
            f"{name} {shown(value)} is not a path in UTF-8", "give a text or a pathlib.Path"
        )
    return Path(value)


def model_name(model: Any) -> str:
    """The name or the path of a model, which may be an object. OptionError if it is no model."""
    if isinstance(model, str | Path):
        return str(as_path("model", model))
    if hasattr(model, "state_dict"):
        return str(getattr(model, "name_or_path", "") or "model")
    raise OptionError(
        f"a {type(model).__name__} is no model",
        "give a name, a path or a Hugging Face model object",
    )


def shown(value: Any) -> str:
    """A value as an error shows it, cut if it is long."""
    try:
        text = str(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
