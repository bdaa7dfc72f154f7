# SPDX-License-Identifier: Apache-2.0
"""The figures by which the house is kept: sizes, docstrings, columns, comments, long sentences.

python tests/figures.py        exit status 0 if all are within their bounds, and the offenders
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from prose import (
    CODE,
    LONG_SHARE,
    LONG_WORDS,
    all_sentences,
    read,
    shown,
    tracked_files,
    wide_lines,
)

FILE_LINES, FUNCTION_LINES, COMMENTS_PER_100 = 250, 40, 3.0
COMMENTED = ("gsqc/targets/", "gsqc/passes/")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


# ------------------------------------------------------------------------------------------------
# code


def _c_functions(text: str) -> Iterator[tuple[int, int]]:
    """First line and length of each C function: it opens and ends with a brace at the margin."""
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"[A-Za-z_].*\)", line) and not line.endswith(";"):
            start = number
        if line.startswith("}") and start:
            yield start, number - start + 1
        if line.startswith("}"):
            start = 0


@cache
def function_lengths() -> dict[str, int]:
    """Lines of each function, by where it begins. A nested one counts for itself as well."""
    lengths = {}
    for file in tracked_files(*CODE[:4]):
        text = read(file)
        if file.suffix != ".py":
            lengths |= {shown(file, line): n for line, n in _c_functions(text)}
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Definition) and node.end_lineno is not None:
                lengths[shown(file, node.lineno)] = node.end_lineno - node.lineno + 1
    return lengths


def _public(tree: ast.Module | ast.ClassDef, place: str) -> Iterator[tuple[str, bool]]:
    """Public classes, functions and methods, and whether each has a docstring."""
    for node in tree.body:
        if isinstance(node, Definition | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{place}:{node.lineno} {node.name}", ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                yield from _public(node, place)


@cache
def public_names() -> dict[str, bool]:
    """Each public name of the package, modules included, and whether it has a docstring."""
    found = {}
    for file in tracked_files(".py"):
        if shown(file).startswith("gsqc/"):
            tree = ast.parse(read(file))
            found[shown(file)] = ast.get_docstring(tree) is not None
            found |= dict(_public(tree, shown(file)))
    return found


def comments_per_100(folder: str) -> float:
    """Comment lines that say something, per 100 lines of Python in a folder."""
    lines = comments = 0
    for file in tracked_files(".py"):
        if shown(file).startswith(folder):
            text = read(file)
            lines += text.count("\n")
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            comments += sum(t.type == tokenize.COMMENT and _says(t.string) for t in tokens)
    return 100 * comments / max(lines, 1)


def _says(comment: str) -> bool:
    return bool(re.search("[a-z]", comment)) and not re.match(r"# ?(SPDX|noqa|type:)", comment)


# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A line of the table. `offenders` are shown below the table."""

    name: str
    value: str
    bound: str
    kept: bool = True
    offenders: tuple[str, ...] = ()


def _counted(name: str, found: list[str]) -> Figure:
    return Figure(name, str(len(found)), "0", not found, tuple(found))


def figures() -> list[Figure]:
    """All figures, with their bounds."""
    files = {shown(f): read(f).count("\n") for f in tracked_files(*CODE)}
    functions, names = function_lengths(), public_names()
    bare = [name for name, documented in names.items() if not documented]
    long = [(n, where, text) for n, where, text in all_sentences() if n > LONG_WORDS]
    share = len(long) / len(all_sentences())
    comments = {folder: comments_per_100(folder) for folder in COMMENTED}
    return [
        _counted("files over 250 lines", [f"{f}: {n}" for f, n in files.items() if n > FILE_LINES]),
        _counted(
            "functions over 40 lines",
            [f"{f}: {n}" for f, n in functions.items() if n > FUNCTION_LINES],
        ),
        Figure(
            "public docstrings", f"{1 - len(bare) / len(names):.1%}", "100 %", not bare, tuple(bare)
        ),
        _counted("lines over 100 columns", wide_lines()),
        *(
            Figure(f"comments per 100 lines, {f}", f"{n:.1f}", "3 or more", n >= COMMENTS_PER_100)
            for f, n in comments.items()
        ),
        Figure(
            "sentences over 30 words in docs",
            f"{share:.1%} of {len(all_sentences())}",
            "below 3 %",
            share < LONG_SHARE,
            tuple(f"{where}: {n} words: {text[:70]}…" for n, where, text in long),
        ),
        Figure("median file, lines", f"{statistics.median(files.values()):.0f}", ""),
        Figure("median function, lines", f"{statistics.median(functions.values()):.0f}", ""),
    ]


def main() -> int:
    """Print the table, then what is out of bounds. 0 if nothing is."""
    table = figures()
    for figure in table:
        mark = "" if figure.kept else "  <- out of bounds"
        print(f"{figure.name:44} {figure.value:>14}   {figure.bound:10}{mark}")
    for figure in table:
        if not figure.kept and figure.offenders:
            print(f"\n{figure.name}:", *figure.offenders[:20], sep="\n    ")
            if len(figure.offenders) > 20:
                print(f"    and {len(figure.offenders) - 20} more")
    return 0 if all(figure.kept for figure in table) else 1


if __name__ == "__main__":
    sys.exit(main())
