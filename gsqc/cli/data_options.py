# SPDX-License-Identifier: Apache-2.0
"""The options of every command that reads data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    list[Path],
    typer.Option(
        help="JSONL, JSON, text or Markdown, or a directory of it; may be given several times (docs/data.md)."
    ),
]
MaskPromptOption = Annotated[
    bool,
    typer.Option(
        "--mask-prompt/--no-mask-prompt", help="Loss on completions and assistant's turns only."
    ),
]
PackingOption = Annotated[
    bool,
    typer.Option(
        "--packing/--no-packing",
        help="Short records share a sequence (docs/data.md says at what price).",
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(help="Hold out a share of the records (0.1 or 10%), or measure on this file."),
]
