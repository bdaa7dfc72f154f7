# SPDX-License-Identifier: Apache-2.0
"""A copy of the corpus that is put back after each case."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tests.campaign.corpus import FURTHER

KEPT = {
    *("model", "data", "saved", "b.gsqc", "small.gsqc", "run", "steps", "peft", "mlx", "state"),
    *("programs", *FURTHER),
}
"""Directories of the corpus that are put back after a case. Others that appear are removed."""


class Place:
    """A copy of the corpus. `restore` puts back what a case changed."""

    def __init__(self, corpus: Path, root: Path) -> None:
        """Copy the corpus to a new directory."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(corpus, root)
        self.root = root
        names = [*root.glob("*"), *(p for kept in KEPT for p in (root / kept).rglob("*"))]
        self.known = set(names)
        small = [p for p in names if p.is_file() and "code" not in p.parts and p.suffix != ".tosa"]
        self.whole = {path: path.read_bytes() for path in small}
        self.stamps = {path: self._stamp(path) for path in small}

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int, int] | None:
        with contextlib.suppress(OSError):
            status = path.lstat()
            return status.st_mtime_ns, status.st_size, status.st_ino
        return None

    def restore(self) -> None:
        """Write changed files anew, and remove what was not there."""
        for folder in (self.root, *(self.root / name for name in ("run", "steps", "peft", "mlx"))):
            for path in folder.glob("*") if folder.is_dir() else ():
                if path not in self.known:
                    shutil.rmtree(
                        path
                    ) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, content in self.whole.items():
            if self._stamp(path) != self.stamps[path]:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                self.stamps[path] = self._stamp(path)
