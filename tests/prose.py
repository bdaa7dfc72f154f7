# SPDX-License-Identifier: Apache-2.0
"""How the repository's pages are read for their figures: files, blocks, sentences, columns."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLUMNS, LONG_WORDS, LONG_SHARE = 100, 30, 0.03
CODE = (".py", ".c", ".h", ".cuh", ".sh")


@cache
def tracked_files(*suffixes: str) -> list[Path]:
    """The repository's own files with these endings, in order. Vendored sources are left out."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in sorted(set(names.splitlines())) if "third_party" not in name]
    return [file for file in files if file.name.endswith(suffixes) and file.is_file()]


def shown(file: Path, line: int | None = None) -> str:
    """The file's name inside the repository, with the line."""
    return f"{file.relative_to(ROOT)}" + ("" if line is None else f":{line}")


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def is_code_or_table(block: str) -> bool:
    """Whether a block of Markdown lines is a code block, a table, or a line of markup."""
    return block.startswith(("    ", "|", "```", "<", "#", "!["))


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """The blocks of a Markdown page, each with its first line. A list item is a block."""
    block: list[str] = []
    first, fenced = 1, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        if fence and not fenced and block:
            yield first, "\n".join(block)
            block = []
        starts = not line.strip() or bool(re.match(r"\s*([*-]|\d+\.) ", line))
        code = bool(block) and is_code_or_table(block[0])
        if not fenced and block and starts and not (code and line.strip()):
            yield first, "\n".join(block)
            block = []
        if line.strip() or fenced:
            first = first if block else number
            block.append(line)
        fenced ^= fence
        if fence and not fenced:
            yield first, "\n".join(block)
            block = []


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs and list items of a page, code and link targets taken out, by first line."""
    for line, block in blocks(text):
        if not is_code_or_table(block):
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", block)
            plain = re.sub(r"(?s)`[^`]*`", "`code`", plain)
            yield line, " ".join(re.sub(r"^\s*([*-]|\d+\.) ", "", plain).split())


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """The sentences of a page, by the first line of their paragraph."""
    for line, paragraph in prose(text):
        for sentence in re.split(r"(?<=[.!?])\**\s+(?=[^a-z])", paragraph):
            yield line, sentence


def words(sentence: str) -> int:
    """How many words a sentence has. `code` is one, a lone sign is none."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


@cache
def all_sentences() -> list[tuple[int, str, str]]:
    """(words, place, sentence) of every page, the longest first."""
    found = [
        (words(sentence), shown(file, line), sentence)
        for file in tracked_files(".md")
        for line, sentence in sentences(read(file))
    ]
    return sorted(found, reverse=True)


def wide_lines() -> list[str]:
    """Lines over 100 columns, of code and of pages. Tables and code in pages are left out."""
    wide = []
    for file in tracked_files(*CODE, ".md"):
        parts = [(1, read(file))] if file.suffix != ".md" else list(blocks(read(file)))
        for first, part in parts:
            if file.suffix != ".md" or not is_code_or_table(part):
                lines = enumerate(part.splitlines(), first)
                wide += [shown(file, number) for number, line in lines if len(line) > COLUMNS]
    return wide
