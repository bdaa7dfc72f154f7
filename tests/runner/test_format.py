# SPDX-License-Identifier: Apache-2.0
"""What gsqc-step shares with Python is what Python declares."""

from __future__ import annotations

import importlib.util
from typing import Any

from gsqc.targets.llvm.sources import FOLDER


def load_writer() -> Any:
    spec = importlib.util.spec_from_file_location("write_format", FOLDER / "write_format.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_format_h_is_current() -> None:
    """If not: python gsqc/runner/write_format.py."""
    assert (FOLDER / "format.h").read_text(encoding="utf-8") == load_writer().text(), (
        "python gsqc/runner/write_format.py"
    )
