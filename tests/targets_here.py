# SPDX-License-Identifier: Apache-2.0
"""Which target folders this tree has, and what tests compile small bundles for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from gsqc.targets.registry import usable_folders

_TARGET_IMPORT = re.compile(r"^(?:from|import) (?:gsqc|tests)\.targets\.(\w+)", re.MULTILINE)
_ONE_TARGET = re.compile(r"^from (?:gsqc|tests)\.targets import (\w+)", re.MULTILINE)
KNOWN = ("arm_npu", "cuda", "llvm", "numpy", "tosa")
"""The folders that tests of this tree may need."""


def missing(folders: Iterable[str]) -> list[str]:
    """Those of the target folders that are not here, or that lack a folder they build on."""
    return [name for name in folders if name not in usable_folders()]


def missing_imports(module: Path) -> list[str]:
    """The target folders that a test module imports and that are not here."""
    text = module.read_text(encoding="utf-8")
    named = _TARGET_IMPORT.findall(text) + _ONE_TARGET.findall(text)
    return missing(sorted(set(named) & set(KNOWN)))


COMPILED = "numpy" if missing(["llvm"]) else "x86-64"
"""The target of small bundles where any will do. numpy's steps are slow, so it comes second."""
