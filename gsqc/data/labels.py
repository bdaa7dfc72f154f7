# SPDX-License-Identifier: Apache-2.0
"""The label of a text that a classifier is trained on: which of the model's labels it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gsqc.data.examples import Document, Example, Labelled
from gsqc.data.options import DataOptions
from gsqc.data.sequences import listed
from gsqc.errors import OptionError
from gsqc.printable import printable

SHOWN = 12
"""Labels that an error names."""
_FORM = 'this bundle gives texts a label: write {"text": …, "label": …}'


def labelled(example: Example, labels: Sequence[str]) -> Labelled:
    """A text with the number of its label. ValueError if it has none, or an unknown one."""
    if not isinstance(example, Document):
        raise ValueError(_FORM)
    if example.label is None:
        raise ValueError(f"the text has no label ({_FORM})")
    return Labelled(example.text, label_number(example.label, labels))


def label_number(label: Any, labels: Sequence[str]) -> int:
    """The number of a label: of its name, or the number itself. ValueError for any other."""
    if isinstance(label, str | int) and not isinstance(label, bool):
        text = str(label)
        if text in labels:
            return labels.index(text)
        is_number = text.isascii() and text.isdecimal() and len(text) < 9
        if is_number and int(text) < len(labels):
            return int(text)
    known, shown = printable(listed(labels, SHOWN)), printable(str(label))[:40]
    raise ValueError(f"the label {shown} is none of {known}, nor the number of one")


def require_for_labels(options: DataOptions) -> None:
    """OptionError for an option of reading that has no meaning for texts with labels."""
    if not options.mask_prompt:
        raise OptionError(
            "--no-mask-prompt has no meaning for a classifier: a text has one loss, of its label",
            "leave it out",
        )
    if options.prompt_end != DataOptions.prompt_end:
        raise OptionError(
            "--prompt-end has no meaning for a classifier: its texts are no prompts", "leave it out"
        )
