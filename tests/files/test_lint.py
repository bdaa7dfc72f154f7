# SPDX-License-Identifier: Apache-2.0
"""Every file is read and written through gsqc/files, which knows what a stranger may put there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = ("write_text", "write_bytes", "read_text", "read_bytes")
"""Methods of Path that open a file by themselves."""
MODULES = {
    "os": ("open", "rename", "replace", "renames"),
    "shutil": ("copy", "copy2", "copyfile", "move"),
    "io": ("open", "FileIO"),
    "tempfile": ("mkdtemp", "mkstemp", "NamedTemporaryFile", "mktemp"),
}
ALLOWED = {
    "gsqc/cli/process.py": "opens the standard streams and /dev/null",
    "gsqc/runner/write_format.py": "writes a source file of this repository",
}


def sources() -> list[Path]:
    """The modules that open no file by themselves."""
    files = (path for path in (ROOT / "gsqc").rglob("*.py") if path.parent.name != "files")
    return sorted(f for f in files if f.relative_to(ROOT).as_posix() not in ALLOWED)


def opening_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The calls that open, rename or make a file by other means, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = node.func
        if isinstance(call, ast.Name) and call.id == "open":
            yield node.lineno, "open"
        if not isinstance(call, ast.Attribute):
            continue
        owner = call.value.id if isinstance(call.value, ast.Name) else ""
        if call.attr in METHODS or call.attr in MODULES.get(owner, ()):
            yield node.lineno, f"{owner}.{call.attr}"
        elif call.attr == "open" and owner not in ("Bundle", *MODULES) and not _in_memory(node):
            yield node.lineno, f"{owner}.open"


def _in_memory(call: ast.Call) -> bool:
    """Whether it opens bytes that were read already: x.open(io.BytesIO(…))."""
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Call) and ast.unparse(first.func) == "io.BytesIO"


@pytest.mark.parametrize(
    "text", ["open('a')", "path.write_text('')", "os.open('a', 0)", "p.open()", "Image.open(p)"]
)
def test_each_kind_of_call_is_found(text: str) -> None:
    assert list(opening_calls(ast.parse(text)))


def test_files_are_opened_in_one_package() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} calls {name}"
        for path in sources()
        for line, name in opening_calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(["use gsqc/files/reading.py or writing.py here:", *found])
