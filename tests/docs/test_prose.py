# SPDX-License-Identifier: Apache-2.0
"""Pages read like pages: short lines, short sentences, no semicolons, links and names that lead
somewhere.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from gsqc.cli.app import app
from tests.prose import (
    LONG_SHARE,
    LONG_WORDS,
    ROOT,
    all_sentences,
    prose,
    read,
    shown,
    tracked_files,
    wide_lines,
)

PAGES = tracked_files(".md")
FOLDERS = ("gsqc", "tests", "docs", "benchmarks", "examples", "facts", "shared", "prototypes")
"""What a name of a file of ours begins with, and three folders of notes that no clone has."""
THEIRS = (
    "convert_hf_to_gguf.py",
    "convert_lora_to_gguf.py",
    "docs/gguf.md",
    "file.py",
    "scaling.md",
)
"""Files of other projects, a name that stands for any file, and one that a benchmark writes."""
PATH = re.compile(
    r"(?<![\w./{-])(?:[\w.-]+/)*[\w.-]+\.(?:py|md|c|h|cuh)\b"
    rf"|(?<![\w./-])(?:{'|'.join(FOLDERS)})(?:/[\w-]+)+(?:\.\w+)?"
)
NOTES = re.compile(r"\(facts\b[^)]*\)")


def test_columns() -> None:
    pages = [line for line in wide_lines() if ".md:" in line]
    assert not pages, "lines over 100 columns: " + ", ".join(pages)


def test_sentences_are_short() -> None:
    long = [(n, where, text) for n, where, text in all_sentences() if n > LONG_WORDS]
    worst = "\n".join(f"{where}: {n} words: {text}" for n, where, text in long[:20])
    assert len(long) < LONG_SHARE * len(all_sentences()), f"\n{worst}"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_pages_have_no_semicolons(page: Path) -> None:
    found = [f"{shown(page, line)}: {text}" for line, text in prose(read(page)) if ";" in text]
    assert not found, "\n".join(found)


def help_texts(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command, of its parameters, and of the commands below it."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
    for below, inner in getattr(command, "commands", {}).items():
        yield from help_texts(inner, f"{name} {below}")


def test_help_has_no_semicolons() -> None:
    texts = dict(help_texts(typer.main.get_command(app), "gsqc"))
    assert len(texts) > 100
    found = [f"{name}: {text}" for name, text in texts.items() if ";" in text]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"(?:\]\(|src=\")([^)#:\"]+)(?:#[^)]*)?[)\"]", read(page))
    assert not [name for name in targets if not (page.parent / name).exists()]


@cache
def file_names() -> set[str]:
    """The last part of the name of every file of the repository."""
    return {file.name for file in tracked_files("")}


def missing(text: str, near: Path) -> list[str]:
    """Names in a text of files that are not in the repository."""
    found = [match.group() for match in NOTES.finditer(text)]
    for name in PATH.findall(text):
        ours = name.split("/")[0] in FOLDERS or "/" not in name
        there = (ROOT / name).exists() or (near / name).exists() or name in file_names()
        if ours and not there and name not in THEIRS:
            found.append(name)
    return found


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Texts that stand as statements: docstrings of modules, names and constants, by line."""
    for node in ast.walk(ast.parse(read(file))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def test_named_files_exist() -> None:
    texts = [(shown(page), read(page), page.parent) for page in PAGES]
    for file in tracked_files(".py"):
        texts += [(shown(file, n), text, file.parent) for n, text in docstrings(file)]
    found = [f"{place}: {n}" for place, text, near in texts for n in missing(text, near)]
    assert not found, "\n".join(found)
