# SPDX-License-Identifier: Apache-2.0
"""gsqc init: a settings file with every option of compile and train, explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gsqc.cli.config import COMMANDS, settings_of
from gsqc.cli.output import JsonOption, Output
from gsqc.errors import ConfigError
from gsqc.runtime.store import write_atomically
from gsqc.training.settings_file import toml_value

EXAMPLES: dict[str, dict[str, Any]] = {
    "compile": {"model": "smollm2-135m", "output": "model.gsqc"},
    "train": {
        "bundle": "model.gsqc",
        "data": "notes.jsonl",
        "steps": 200,
        "lr": "0.001",
        "run": "runs/first",
    },
}
"""Values of the options that have no default."""

UNSET: dict[str, dict[str, Any]] = {
    "compile": {"base": "gguf", "dump": "graphs"},
    "train": {
        "validation": "held-out.jsonl",
        "clip": "1",
        "batch": 1,
        "eval_every": 20,
        "patience": 3,
        "threads": 2,
    },
}
"""What an option that is off could be."""


def settings_text(commands: dict[str, Any]) -> str:
    """The file: a table for each command, its options with what they mean; those with a default as
    comments.
    """
    lines = [
        "# gsqc compile --config THIS, then gsqc train --config THIS. Options on the command line win."
    ]
    for name in COMMANDS:
        lines += ["", f"[{name}]"]
        for key, parameter in settings_of(commands[name]).items():
            lines.append(f"# {parameter.help}")
            if key in EXAMPLES[name]:
                lines.append(f"{key} = {toml_value(EXAMPLES[name][key])}")
            else:
                value = (
                    parameter.default if parameter.default is not None else UNSET[name].get(key, "")
                )
                lines.append(f"#{key} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def init(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The settings file to write.")] = Path("gsqc.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write FILE with every option of compile and train, explained, to edit and to give with
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
