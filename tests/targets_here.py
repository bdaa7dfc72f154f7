# SPDX-License-Identifier: Apache-2.0
"""Which target folders this tree has, and what tests compile small bundles for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import gsqc.targets

FOLDER = Path(gsqc.targets.__file__).parent
_TARGET_IMPORT = re.compile(r"^(?:from|import) (?:gsqc|tests)\.targets\.(\w+)", re.MULTILINE)
_ONE_TARGET = re.compile(r"^from (?:gsqc|tests)\.targets import (\w+)", re.MULTILINE)
KNOWN = ("arm_npu", "cuda", "llvm", "numpy", "tosa")
"""The folders that tests of this tree may need."""


def missing(folders: Iterable[str]) -> list[str]:
    """Those of the target folders that are not here."""
    return [name for name in folders if not (FOLDER / name / "target.py").is_file()]


def missing_imports(module: Path) -> list[str]:
    """The target folders that a test module imports and that are not here."""
    text = module.read_text(encoding="utf-8")
    named = _TARGET_IMPORT.findall(text) + _ONE_TARGET.findall(text)
    return missing(sorted(set(named) & set(KNOWN)))


COMPILED = "numpy" if missing(["llvm"]) else "x86-64"
"""The target of small bundles where any will do: numpy's steps are slow, so it is a second choice."""
