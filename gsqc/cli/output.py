# SPDX-License-Identifier: Apache-2.0
"""What commands print: for people with Rich, or JSON lines only."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines only.")]


class Output:
    """Prints for people, or with `json` one JSON object per line and nothing else."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(quiet=as_json, highlight=False)

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text, markup=False, soft_wrap=True)

    def emit(self, record: dict[str, Any]) -> None:
        """A line for scripts."""
        if self.as_json:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()


def print_error(message: str, hint: str, *, as_json: bool) -> None:
    """An error in one line (and its hint in another), on stderr; with JSON in one object on stdout."""
    one_line = " ".join(message.split())
    if as_json:
        sys.stdout.write(json.dumps({"error": one_line, "hint": hint}) + "\n")
    else:
        sys.stderr.write(f"error: {one_line}\n hint: {hint}\n")
