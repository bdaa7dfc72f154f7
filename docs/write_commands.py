# SPDX-License-Identifier: Apache-2.0
"""Write docs/commands/: one page for each command, from the code. Run it after an option was
changed.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import typer

from gsqc.cli.config import COMMANDS
from gsqc.cli.main import app

FOLDER = Path(__file__).parent / "commands"
NAMES = {int: "number", str: "text", Path: "path"}
HEAD = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- Written by docs/write_commands.py from the code. -->\n"
NOTES = {
    "compile": "`--bits`, `--base` and `--adapter`: [number-format.md](../number-format.md). "
    "`--target`: [add-a-target.md](../add-a-target.md), `gsqc targets`.",
    "train": "More: [training.md](../training.md), [data.md](../data.md), [runs.md](../runs.md).",
    "data": "More: [data.md](../data.md).",
    "tokens": "More: [runner.md](../runner.md).",
    "init": "More: [config.md](../config.md).",
    "check": "More: [exactness.md](../exactness.md), [ci.md](../ci.md).",
}


def _type(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    inner = get_args(annotation)
    text = NAMES.get(inner[0] if inner else annotation, "text")
    if parameter.min is not None:
        text += f" from {parameter.min}"
    return f"{text}, several times" if inner else text


def _row(parameter: Any) -> str:
    names = " ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    if parameter.type_descriptor.annotation is bool:
        kind = ""
        shown = (
            f"`{(parameter.opts if default else parameter.secondary_opts)[0]}`"
            if parameter.secondary_opts
            else ""
        )
    else:
        kind = _type(parameter)
        shown = "required" if parameter.required else "" if default is None else f"`{default}`"
    help_text = (parameter.help or "").replace("|", "\\|")
    return f"| {names} | {kind} | {shown} | {help_text} |"


def page(name: str, command: Any) -> str:
    """The page of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    places = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    needed = [f"{p.opts[0]} {p.name.upper()}" for p in options if p.required]
    usage = " ".join(["gsqc", name, *places, *needed, "[OPTIONS]"])
    lines = [HEAD, f"# gsqc {name}\n", f"    {usage}\n", inspect.cleandoc(command.help or ""), ""]
    for title, parameters in (("Argument", arguments), ("Option", options)):
        if parameters:
            lines += [
                f"| {title} | Takes | Default | |",
                "|---|---|---|---|",
                *map(_row, parameters),
                "",
            ]
    if name in COMMANDS:
        lines += [
            f"What these do can stand in a [settings file](../config.md), below `[{name}]`.\n"
        ]
    if name in NOTES:
        lines += [NOTES[name], ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def pages() -> dict[str, str]:
    """The text of each page by file name."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    texts = {f"{name}.md": page(name, command) for name, command in commands.items()}
    rows = [
        f"* [gsqc {name}]({name}.md): {(command.help or '').splitlines()[0]}"
        for name, command in commands.items()
    ]
    return texts | {"README.md": "\n".join([HEAD, "# Commands\n", *rows, ""])}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
