# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: where they lie, and whether they are what was written."""

from __future__ import annotations

import hashlib
import os
import string
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gsqc.bundle.json_text import read_json
from gsqc.bundle.manifest import AGAIN, FileEntry
from gsqc.errors import BundleError
from gsqc.files.reading import open_file, read_file

MANIFEST, PLAN, TOKENIZER = "manifest.json", "plan.json", "tokenizer.json"
BASE, INITIAL_STATE = "base.safetensors", "state.safetensors"
CODE, PROGRAMS = "code/", "programs/"
KERNELS = "kernels.so"
RUNNER = "gsqc-step"
"""Both are in the folder of a CPU target."""
MADE_FROM_THE_PLAN = (CODE, PROGRAMS)
"""Folders that are no part of a bundle's meaning."""
PLAIN = string.ascii_letters + string.digits + "._+-"
"""Characters that every file system takes in a name."""
MAXIMUM_JSON_BYTES = 256 << 20


def code_folder(target: str) -> str:
    """The folder of a bundle for the code of a target, which bears the target's name.

    A "-" replaces each character that is not PLAIN.
    """
    return CODE + "".join(c if c in PLAIN else "-" for c in target) + "/"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_path(root: Path, name: str) -> Path:
    """The path of a file of the bundle `root`.

    Raises BundleError if the name is absolute, if it leaves the bundle, or if a part of it is a
    link.
    """
    pure = PurePosixPath(name)
    odd = "\\" in name or any(c < " " for c in name)
    if not name or pure.is_absolute() or ".." in pure.parts or odd:
        raise BundleError(f"the manifest names a file outside the bundle: {name!r}", AGAIN)
    path = root.joinpath(*pure.parts)
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise BundleError(f"{name} is a link; a bundle holds plain files", AGAIN)
    return path


class HeldFile:
    """A file of a bundle that stays open after its hash was checked.

    Whoever uses it must use `file`: the name may lead to another file by now. Raises BundleError if
    the file is missing, if it is no plain file, or if it was changed since the bundle was written.
    """

    def __init__(self, root: Path, name: str, entry: FileEntry) -> None:
        """Open a file that the manifest lists, and check its size and hash."""
        path = safe_path(root, name)
        try:
            self.file = open_file(path, links=False)
        except FileNotFoundError:
            raise BundleError(f"the bundle lacks its file {name}", AGAIN) from None
        self.name, self.entry = name, entry
        self._stamp = self._status()
        if not self.is_whole():
            self.file.close()
            raise BundleError(
                f"{name} was changed since the bundle was written (its hash differs)", AGAIN
            )

    def _status(self) -> tuple[int, int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def is_whole(self) -> bool:
        """Whether the file has its size and hash. Reads all of it."""
        if self._status()[0] != self.entry.bytes:
            return False
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest() == self.entry.sha256

    def is_touched(self) -> bool:
        """Whether the file was written to since its hash was checked. Takes microseconds."""
        # The last link to a file that was replaced goes away, which changes its ctime alone.
        size, written, changed = self._status()
        if (size, written) != self._stamp[:2]:
            return True
        return changed != self._stamp[2] and not self._accept(changed)

    def _accept(self, changed: int) -> bool:
        """Hash the file again after its status changed, and remember the new status if it holds."""
        if not self.is_whole():
            return False
        self._stamp = (*self._stamp[:2], changed)
        return True

    def read(self) -> bytes:
        """The content, whose hash was checked again. BundleError if it was changed."""
        self.file.seek(0)
        content = self.file.read()
        if hashlib.sha256(content).hexdigest() != self.entry.sha256:
            raise BundleError(f"{self.name} was changed while it was read", AGAIN)
        return content


def meaning_of(files: Mapping[str, FileEntry]) -> str:
    """The sha256 of a text that has a line "name sha256" for each file, sorted by name.

    Files made from the plan are left out. So the meaning does not depend on the targets that a
    bundle has code for: all compute the same bits.
    """
    lines = [
        f"{name} {files[name].sha256}\n"
        for name in sorted(files)
        if not name.startswith(MADE_FROM_THE_PLAN)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_bundle_json(content: bytes, what: str) -> Any:
    """The value of a JSON file of a bundle. BundleError, which calls it `what`, if it is none."""
    if len(content) > MAXIMUM_JSON_BYTES:
        raise BundleError(f"{what} is too large to be one", AGAIN)
    try:
        return read_json(content)
    except ValueError as error:
        raise BundleError(f"{what} is not JSON ({error})", AGAIN) from None


def read_manifest_data(root: Path) -> Any:
    """The JSON of a bundle's manifest.

    BundleError if there is no bundle or no manifest, and OSError if it cannot be read.
    """
    path = root / MANIFEST
    if not root.exists():
        raise BundleError(
            f"no such bundle: {root}", "make one with gsqc compile MODEL -o NAME.gsqc"
        )
    if not path.exists():
        raise BundleError(
            f"{root} is not a bundle: it has no {MANIFEST}",
            "give a directory that gsqc compile wrote",
        )
    content = read_file(path, most_bytes=MAXIMUM_JSON_BYTES, links=False)
    return parse_bundle_json(content, "the bundle's manifest")
