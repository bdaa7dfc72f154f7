# SPDX-License-Identifier: Apache-2.0
"""The golden files: comparing with them, and writing them (python -m tests.golden.files)."""

from __future__ import annotations

import difflib
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from tests.golden.configurations import CONFIGURATIONS
from tests.golden.record import record

EXPECTED = Path(__file__).parent / "expected"


def expected_files(name: str) -> dict[str, str]:
    """The golden files of a configuration by name, empty if there are none."""
    paths = [EXPECTED / f"{name}.txt", *sorted((EXPECTED / name).glob("*.txt"))]
    return {
        path.relative_to(EXPECTED).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if path.exists()
    }


def difference(expected: Mapping[str, str], given: Mapping[str, str]) -> str:
    """A unified diff of all files that differ, empty if none does."""
    parts = []
    for name in sorted({*expected, *given}):
        lines = [files.get(name, "").splitlines() for files in (expected, given)]
        parts += difflib.unified_diff(*lines, f"golden/{name}", f"now/{name}", lineterm="", n=1)
    return "\n".join(parts)


def main() -> None:
    """Write the golden files of all configurations, and print what changed."""
    if find_spec("tosa_serializer") is None:
        sys.exit("the golden files hold hashes of TOSA programs: pip install 'gsqc[npu]' first")
    written = set()
    for name, configuration in CONFIGURATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            given = record(configuration, Path(folder))
        changes = difference(expected_files(name), given)
        print(f"{name}: {'changed' if changes else 'as it was'}\n{changes}".rstrip(), flush=True)
        shutil.rmtree(EXPECTED / name, ignore_errors=True)
        for file, text in given.items():
            (EXPECTED / file).parent.mkdir(parents=True, exist_ok=True)
            (EXPECTED / file).write_text(text, encoding="utf-8")
            written.add(EXPECTED / file)
    for path in EXPECTED.rglob("*.txt"):
        if path not in written:
            path.unlink()


if __name__ == "__main__":
    main()
