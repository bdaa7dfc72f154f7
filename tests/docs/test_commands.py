# SPDX-License-Identifier: Apache-2.0
"""The pages of the commands are those of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.targets_here import KNOWN

DOCS = Path(__file__).parents[2] / "docs"


def load_writer() -> Any:
    spec = importlib.util.spec_from_file_location("write_commands", DOCS / "write_commands.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.needs_target(*KNOWN)  # their options stand in the pages
def test_pages_are_current() -> None:
    """If not: python docs/write_commands.py."""
    pages = load_writer().pages()
    assert {f.name for f in (DOCS / "commands").glob("*.md")} == set(pages)
    for name, text in pages.items():
        assert (DOCS / "commands" / name).read_text(encoding="utf-8") == text, (
            f"{name}: python docs/write_commands.py"
        )
