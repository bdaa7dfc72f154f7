# SPDX-License-Identifier: Apache-2.0
"""The options of reading data, and the share of the records that is held out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from gsqc.data.prompt_end import DEFAULT_END, require_end, unescaped
from gsqc.decimals import exact_fraction
from gsqc.errors import OptionError
from gsqc.option import option

GROUP = "Data"


@dataclass(frozen=True)
class DataOptions:
    """What a run reads, and how."""

    data: tuple[Path, ...] = option(
        help="JSONL, JSON, text or Markdown files, or directories of them (docs/data.md).",
        group=GROUP,
        example="notes.jsonl",
        decides_bits=True,
        recorded=("data_sha256",),
    )
    mask_prompt: bool = option(
        True,
        help="Only completions and the assistant's turns have a loss.",
        flag="--mask-prompt",
        opposite="--no-mask-prompt",
        group=GROUP,
        decides_bits=True,
    )
    packing: bool = option(
        False,
        help="Short records share a sequence. docs/data.md says what that costs.",
        flag="--packing",
        opposite="--no-packing",
        group=GROUP,
        decides_bits=True,
    )
    validation: str | None = option(
        None,
        help="Hold out a share of the records (0.1 or 10%), or measure the loss on this file.",
        group=GROUP,
        example="held-out.jsonl",
        decides_bits=True,
        recorded=("held_out_share", "validation_sha256"),
    )
    strict: bool = option(
        False,
        help="Refuse a record with nothing to learn, such as an empty completion. Without it, "
        "such records are left out.",
        flag="--strict",
        group=GROUP,
    )
    images: Path | None = option(
        None,
        help="How the model sees the images of the data: a file of gsqc images (docs/images.md).",
        group=GROUP,
        example="photos.safetensors",
        decides_bits=True,
        recorded=("images_sha256",),
    )
    prompt_end: str = option(
        DEFAULT_END,
        help=r"Text between a prompt and its completion. \n is a newline, \t a tab.",
        group=GROUP,
        command_default=r"\n",
        decides_bits=True,
        parse=unescaped,
    )

    def __post_init__(self) -> None:
        """Check the text that ends a prompt."""
        require_end(self.prompt_end)


def validation_share(text: str | None) -> Fraction | None:
    """The share in (0, 1) that --validation asks for. None if it names a file, or nothing.

    Raises OptionError.
    """
    if text is None or os.path.exists(text):
        return None
    number = exact_fraction(text.removesuffix("%"), 100)
    share = None if number is None else number / (100 if text.endswith("%") else 1)
    if share is None or not 0 < share < 1:
        raise OptionError(
            f"--validation {text} is neither a file nor a share between 0 and 1",
            "write --validation 0.1, 10%, or a path",
        )
    return share
