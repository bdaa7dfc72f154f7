# SPDX-License-Identifier: Apache-2.0
"""No output ends in a traceback, whatever encoding the console has."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gsqc.cli.output import Output, print_error
from tests.runtime.small_bundle import write_bundle

ENCODINGS = ["ascii", "cp1252", "latin-1", "cp437", "utf-8", "gb2312"]
TEXT = "Käse ▁▂█ – … · │ ━ 世界 🦀 \N{REPLACEMENT CHARACTER}"
RECORDS = [{"prompt": TEXT, "completion": f"{TEXT} {k}"} for k in range(6)]


def stream(encoding: str) -> io.TextIOWrapper:
    """A stream as strict as the one that Python gives a console of this encoding."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)


def written(opened: io.TextIOWrapper) -> str:
    raw = opened.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(opened.encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_way_of_printing(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = stream(encoding), stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    printer = Output(False)
    printer.say(TEXT)
    printer.warn(TEXT)
    printer.tell({"text": TEXT})
    table = Table("a", "b")
    table.add_row(TEXT, Text("█" * 9))
    printer.console.print(table)
    printer.console.print(ProgressBar(9, 3, width=20))
    printer.say("")  # a bar ends no line
    with printer.console.status(TEXT):
        pass
    Output(True).emit({"text": TEXT})
    Output(True).warn(TEXT)
    print_error(TEXT, TEXT, as_json=False)
    print_error(TEXT, TEXT, as_json=True)
    lines = written(out).splitlines()
    assert json.loads(lines[-2]) == {"text": TEXT}
    assert json.loads(lines[-1])["error"] == TEXT
    assert len(written(err).splitlines()) == 2
    if encoding == "utf-8":
        assert lines[0] == TEXT
    if encoding == "ascii":
        assert lines[0].startswith(r"K\xe4se .:# - . . | - \u4e16\u754c")


def test_a_display_in_place_on_a_terminal_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich puts its own stream in the place of standard output meanwhile."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    terminal = Terminal(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    printer = Output(False)
    with Live(Text(TEXT), console=printer.console):
        assert sys.stdout is not terminal
        printer.say(TEXT)
        print("from elsewhere …")
    shown = written(terminal)
    assert "from elsewhere ." in shown and r"\u4e16" in shown


def run_program(place: Path, environment: dict[str, str], *arguments: str) -> Any:
    variables = {
        k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO"))
    }
    return subprocess.run(
        [sys.executable, "-m", "gsqc", *arguments],
        cwd=place,
        env={**variables, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **environment},
        capture_output=True,
        check=False,
    )


CONSOLES = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C"}]


@pytest.mark.parametrize("console", CONSOLES, ids=lambda c: "-".join(c.values()))
def test_commands_on_such_a_console(tmp_path: Path, console: dict[str, str]) -> None:
    """Those that print a stranger's text, those that draw, and errors with any name."""
    write_bundle(tmp_path / "small.gsqc", sequence_length=256)
    lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS]
    (tmp_path / "notes.jsonl").write_text("".join(lines), encoding="utf-8")
    for arguments, code in (
        (("data", "notes.jsonl", "--bundle", "small.gsqc"), 0),
        (("tokens", "small.gsqc", "--data=notes.jsonl", "--steps=2", "-o", "t.safetensors"), 0),
        (("inspect", "small.gsqc"), 0),
        (("targets",), 0),
        (("--help",), 0),
        (("inspect", f"{TEXT}.gsqc"), 2),
    ):
        done = run_program(tmp_path, console, *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert b"Traceback" not in done.stderr and b"fault" not in done.stderr
        (done.stdout + done.stderr).decode(console.get("PYTHONIOENCODING", "ascii"))


def prints(file: Path) -> bool:
    """Whether a module calls print, or makes a console of Rich's."""
    names = {
        call.func.id
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    return bool(names & {"print", "Console"})


def test_everything_is_printed_by_one_class() -> None:
    """So its cure is one for all commands."""
    folder = Path(__file__).parents[2] / "gsqc"
    found = [file.relative_to(folder).as_posix() for file in folder.rglob("*.py") if prints(file)]
    assert found == ["cli/output.py"]
