# SPDX-License-Identifier: Apache-2.0
"""Options from texts: what the command line, a settings file and the Python API give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from gsqc.errors import OptionError
from gsqc.option import options_of, problems_of

_T = TypeVar("_T")


def parse_options(cls: type[_T], given: Mapping[str, Any]) -> _T:
    """An instance from values by field name. Texts are read by their type, if it has a `parse`.

    Raises one OptionError with every problem. If a text cannot be read, the checks that need
    several values are left out.
    """
    values, errors = dict(given), []
    for known in options_of(cast(type, cls)):
        value = values.get(known.field, known.default)
        if known.is_list and not isinstance(value, list | tuple):
            continue  # the checks below name it
        texts = value if known.is_list else (value,)
        try:
            read = tuple(known.read(text) for text in texts)
        except OptionError as error:
            errors.append(error)
        else:
            if any(new is not text for new, text in zip(read, texts, strict=True)):
                values[known.field] = read if known.is_list else read[0]
    if not errors:
        return cls(**values)
    problems = [str(error) for error in errors] + problems_of(cls, values)
    hints = dict.fromkeys(error.hint for error in errors)
    raise OptionError("; ".join(problems), "; ".join(hints))
