# SPDX-License-Identifier: Apache-2.0
"""Imports run downwards: none to a higher layer, none in a circle (docs/architecture.md).

Every import counts, inside functions and below TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# fmt: off
LAYERS = [
    "version", "limits", "errors", "printable", "names", "files", "values", "decimals", "option",
    "named", "numerics", "bundle", "graph", "models", "adapters", "data", "targets", "passes",
    "compiler", "runtime", "training", "runner", "check", "export", "report", "harness", "cli",
    "api", "testing", "__init__", "__main__",
]
# fmt: on
"""From the bottom to the top. `__init__` is the package's own file: it names what users import."""
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): file
    for file in sorted((ROOT / "gsqc").rglob("*.py"))
}
PACKAGES = [name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")]


def module_of(dotted: str, name: str = "") -> str | None:
    """The module that `from dotted import name` reads, a package as its __init__."""
    places = (f"{dotted}.{name}", f"{dotted}.{name}.__init__", dotted, f"{dotted}.__init__")
    return next((place for place in places if place in FILES), None)


@cache
def imports() -> dict[str, dict[str, int]]:
    """For each module of gsqc, the modules of gsqc that it imports, with the line."""
    found: dict[str, dict[str, int]] = {}
    for module, file in FILES.items():
        found[module] = {}
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: {node.lineno}"
            if isinstance(node, ast.ImportFrom):
                names = [module_of(node.module or "", alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [module_of(alias.name) for alias in node.names]
            else:
                continue
            found[module] |= {name: node.lineno for name in names if name and name != module}
    return found


def layer(module: str) -> int:
    """The place of a module's layer in the list."""
    return LAYERS.index(module.split(".")[1])


def test_every_folder_has_a_layer() -> None:
    assert {module.split(".")[1] for module in FILES} <= set(LAYERS)


def test_no_import_runs_upward() -> None:
    upward = [
        f"{FILES[module].relative_to(ROOT)}:{line} imports {name}"
        for module, names in imports().items()
        for name, line in names.items()
        if layer(name) > layer(module)
    ]
    assert not upward, "\n".join(["imports that run upward:", *upward])


@pytest.mark.parametrize("package", [*PACKAGES, None], ids=lambda p: p or "modules")
def test_no_circle(package: str | None) -> None:
    """Between the files and folders of a package, and between single modules."""

    def member(module: str) -> str | None:
        if package is None:
            return module
        inside = module.startswith(f"{package}.")
        return module.removeprefix(f"{package}.").split(".")[0] if inside else None

    graph: dict[str, set[str]] = {}
    for module, names in imports().items():
        if own := member(module):
            others = {m for name in names if (m := member(name)) and m != own}
            graph.setdefault(own, set()).update(others)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")
