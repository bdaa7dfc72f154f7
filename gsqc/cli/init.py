# SPDX-License-Identifier: Apache-2.0
"""gsqc init: a settings file with every option of compile and train, explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gsqc.cli.config import COMMANDS, settings_of
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import ConfigError
from gsqc.option import Option
from gsqc.runtime.store import write_atomically
from gsqc.training.settings_file import toml_value

FILE = Path("gsqc.toml")
HEAD = (
    "# gsqc compile --config THIS, then gsqc train --config THIS. Options on the command line win."
)


def _lines(key: str, declared: Option) -> list[str]:
    """A setting with what it means. One that has a default is a comment."""
    choices = f" One of {', '.join(declared.choices)}." if declared.choices else ""
    default = declared.given_default
    value = declared.example if default is None or declared.is_needed else default
    mark = "" if declared.is_needed else "#"
    return [f"# {declared.help}{choices}", f"{mark}{key} = {toml_value(value)}"]


def settings_text(commands: dict[str, Any]) -> str:
    """The file: a table for each command, with all its settings."""
    lines = [HEAD]
    for name in COMMANDS:
        lines += ["", f"[{name}]"]
        for key, declared in settings_of(commands[name]).items():
            lines += _lines(key, declared)
    return "\n".join(lines) + "\n"


def init(
    context: typer.Context,
    file: Annotated[Path, Option("The settings file to write.", is_argument=True)] = FILE,
    force: Annotated[bool, Option("Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a file with every setting of compile and train, explained, to edit and to use with
    --config.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} exists", "give another name, or --force")
    assert context.parent is not None
    commands = context.parent.command.commands  # type: ignore[attr-defined]
    write_atomically(file, [settings_text(commands).encode()])
    out = Output(json)
    out.say(
        f"wrote {file}: edit it, then gsqc compile --config {file} and gsqc train --config {file}"
    )
    out.emit({"settings": str(file)})
