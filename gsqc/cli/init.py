# SPDX-License-Identifier: Apache-2.0
"""gsqc init: writes a settings file that explains every option of compile and train."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from gsqc.cli.config import COMMANDS, settings_of
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import ConfigError
from gsqc.files.writing import write_result
from gsqc.option import Option
from gsqc.training.settings_file import toml_value

FILE = Path("gsqc.toml")
WIDTH = 96
HEAD = (
    "# gsqc compile --config THIS, then gsqc train --config THIS. Options on the command line win."
)


def _lines(key: str, declared: Option) -> list[str]:
    """A setting below its explanation. Most that are not needed are commented out."""
    choices = f" One of {', '.join(declared.choices)}." if declared.choices else ""
    default = declared.given_default
    is_example = declared.is_needed or default is None
    value = toml_value(declared.example if is_example else default)
    is_set = declared.is_needed or declared.is_written
    line = f"{key} = {value}" if is_set else f"#{key} = {value}"
    note = "  # for example" if default is None else ""
    return [f"# {part}" for part in wrap(declared.help + choices, WIDTH)] + [line + note]


def settings_text(commands: dict[str, Any]) -> str:
    """The text of the file: a table for each command, with its settings below headings."""
    lines = [HEAD]
    for name in COMMANDS:
        lines += ["", f"[{name}]"]
        heading = ""
        settings = settings_of(commands[name])
        groups = [declared.group for declared in settings.values()]
        for key, declared in sorted(settings.items(), key=lambda s: groups.index(s[1].group)):
            if declared.group and declared.group != heading:
                heading = declared.group
                lines += ["", f"# == {heading}"]
            lines += _lines(key, declared)
    return "\n".join(lines) + "\n"


def init(
    context: typer.Context,
    file: Annotated[Path, Option("The settings file to write.", is_argument=True)] = FILE,
    force: Annotated[bool, Option("Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a file that explains every setting of compile and train.

    Edit it, and give it to both commands with --config.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} exists", "give another name, or overwrite it with --force")
    assert context.parent is not None
    commands = context.parent.command.commands  # type: ignore[attr-defined]
    write_result(file, [settings_text(commands).encode()])
    out = Output(json)
    out.say(
        f"wrote {file}: edit it, then gsqc compile --config {file} and gsqc train --config {file}"
    )
    out.emit({"settings": str(file)})
