# SPDX-License-Identifier: Apache-2.0
"""Write docs/commands/: one page for each command, from the declarations of its options. Run it
after an option was changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

from gsqc.cli.app import COMMANDS
from gsqc.cli.command import as_command
from gsqc.cli.config import COMMANDS as WITH_FILE
from gsqc.option import Option

FOLDER = Path(__file__).parent / "commands"
HEAD = (
    "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
    "<!-- Written by docs/write_commands.py from the code. -->\n"
)
MAKE_BITS = ("compile", "train", "tokens")
"""Commands whose options decide what a step computes."""
NOTES = {
    "compile": "`--bits`, `--base` and `--adapter`: [number-format.md](../number-format.md). "
    "`--optimizer`: [zo.md](../zo.md). "
    "`--target`: [add-a-target.md](../add-a-target.md), `gsqc targets`.",
    "train": "More: [training.md](../training.md), [data.md](../data.md), [runs.md](../runs.md).",
    "retarget": "More: [bundles.md](../bundles.md).",
    "inspect": "More: [bundles.md](../bundles.md).",
    "data": "More: [data.md](../data.md).",
    "images": "More: [images.md](../images.md).",
    "tokens": "More: [runner.md](../runner.md).",
    "init": "More: [config.md](../config.md).",
    "plan": "More: [plan.md](../plan.md).",
    "models": "More: [models.md](../models.md).",
    "replay": "More: [zo.md](../zo.md).",
    "report": "More: [report.md](../report.md).",
    "export": "More: [export.md](../export.md).",
    "import": "More: [export.md](../export.md).",
    "eval": "More: [evaluation.md](../evaluation.md).",
    "lm-eval": "More: [evaluation.md](../evaluation.md).",
    "check": "More: [exactness.md](../exactness.md), [ci.md](../ci.md).",
}

EXIT_CODES = """\
## Exit codes

| code | it means |
|---|---|
| 0 | The command did what it was asked for. |
| 1 | A check failed, or standard output could not be written. |
| 2 | An option, a file or this machine does not fit. One line says what to do. |
| 70 | gsqc has a fault. The line names the file with its traceback, for a report. |
| 130, 143 | Ctrl-C or SIGTERM. |
| 141 | The reader of standard output is gone. |
"""


def _names(option: Option) -> str:
    names = (option.short, option.shown_name, option.opposite)
    return " ".join(f"`{name}`" for name in names if name)


def _default(option: Option) -> str:
    default = option.given_default
    if option.is_written:
        return f"this or `--{option.instead_of}`"
    if option.is_needed:
        return "needed"
    if option.kind is bool and default is not None:
        off = f"`{option.opposite}`" if option.opposite else ""
        return f"`{option.shown_name}`" if default else off
    return "" if default in (None, ()) else f"`{default}`"


def _row(option: Option, with_bits: bool) -> str:
    takes = option.takes.replace("|", ", ") + (", several times" if option.is_list else "")
    bits = [("yes" if option.decides_bits else "")] if with_bits else []
    cells = [_names(option), takes, _default(option), *bits, option.help]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _tables(options: Iterable[Option], with_bits: bool) -> list[str]:
    """A table for each group, below its heading."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault("Arguments" if option.is_argument else option.group, []).append(option)
    bits = " Decides bits |" if with_bits else ""
    lines = []
    for group in sorted(groups, key=lambda name: name != "Arguments"):
        head = f"| | Takes | Default |{bits} |"
        rule = "|---" * (head.count("|") - 1) + "|"
        rows = [_row(option, with_bits) for option in groups[group]]
        lines += [f"**{group or 'Options'}**\n", head, rule, *rows, ""]
    return lines


def _wrapped(text: str, indent: str = "") -> str:
    """Paragraphs at 100 columns."""
    parts = text.split("\n\n")
    return "\n\n".join(
        fill(part, 100, subsequent_indent=indent, break_on_hyphens=False) for part in parts
    )


def page(name: str, command: Any) -> str:
    """The page of one command."""
    options = command.options
    places = [
        o.shown_name if o.is_needed else f"[{o.shown_name}]" for o in options if o.is_argument
    ]
    needed = [
        f"{o.short or o.shown_name} {o.name.upper()}"
        for o in options
        if (o.is_needed or o.is_written) and not o.is_argument
    ]
    usage = " ".join(["gsqc", name, *places, *needed, "[OPTIONS]"])
    lines = [HEAD, f"# gsqc {name}\n", f"    {usage}\n", _wrapped(command.__doc__), ""]
    lines += _tables(options, with_bits=name in MAKE_BITS)
    if name in WITH_FILE:
        lines += [
            _wrapped(
                "What says how to compute and what to write can also stand in a "
                f"[settings file](../config.md), below `[{name}]`."
            ),
            "",
        ]
    if name in NOTES:
        lines += [_wrapped(NOTES[name]), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def pages() -> dict[str, str]:
    """The text of each page by file name."""
    texts, contents = {}, [HEAD, "# Commands\n"]
    for heading, group in COMMANDS.items():
        contents += [f"## {heading}"]
        for name, function in group.items():
            command = as_command(name, function)
            texts[f"{name}.md"] = page(name, command)
            first = (command.__doc__ or "").splitlines()[0]
            contents += [_wrapped(f"* [gsqc {name}]({name}.md): {first}", "  ")]
        contents += [""]
    return texts | {"README.md": "\n".join([*contents, EXIT_CODES])}


def main() -> None:
    """Replace all pages."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
