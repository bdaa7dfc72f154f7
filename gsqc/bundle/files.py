# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: where they lie, and whether they are what was written."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gsqc.bundle.json_text import read_json
from gsqc.bundle.manifest import AGAIN, FileEntry
from gsqc.errors import BundleError

MANIFEST, PLAN, TOKENIZER = "manifest.json", "plan.json", "tokenizer.json"
BASE, INITIAL_STATE = "base.safetensors", "state.safetensors"
CODE, PROGRAMS = "code/", "programs/"
KERNELS = "kernels.so"
RUNNER = "gsqc-step"
"""Both are in the folder of a CPU target."""
MADE_FROM_THE_PLAN = (CODE, PROGRAMS)
"""Folders that are no part of what a bundle means."""
PLAIN = string.ascii_letters + string.digits + "._+-"
MAXIMUM_JSON_BYTES = 256 << 20


def code_folder(target: str) -> str:
    """Where a bundle keeps the code for a target: the target's name with "-" for the characters
    that not every file system takes.
    """
    return CODE + "".join(c if c in PLAIN else "-" for c in target) + "/"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
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


def check_file(root: Path, name: str, entry: FileEntry) -> Path:
    """The path of a listed file. BundleError if it is missing or was changed."""
    file = safe_path(root, name)
    if not file.is_file():
        raise BundleError(f"the bundle lacks its file {name}", AGAIN)
    if file.stat().st_size != entry.bytes or file_sha256(file) != entry.sha256:
        raise BundleError(
            f"{name} was changed since the bundle was written (its hash differs)", AGAIN
        )
    return file


def meaning_of(files: Mapping[str, FileEntry]) -> str:
    """sha256 over "name sha256" of all files but those made from the plan, a line each, by name.

    It does not depend on the targets that a bundle has code for: all compute the same bits.
    """
    lines = [
        f"{name} {files[name].sha256}\n"
        for name in sorted(files)
        if not name.startswith(MADE_FROM_THE_PLAN)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_bundle_json(path: Path, what: str) -> Any:
    """The value of a JSON file of a bundle. BundleError, which calls it `what`, if it is none."""
    if path.stat().st_size > MAXIMUM_JSON_BYTES:
        raise BundleError(f"{what} is too large to be one", AGAIN)
    try:
        return read_json(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{what} is not JSON ({error})", AGAIN) from None


def read_manifest_data(root: Path) -> Any:
    """The JSON of a bundle's manifest. BundleError if there is no bundle or no manifest."""
    path = root / MANIFEST
    if not root.exists():
        raise BundleError(
            f"no such bundle: {root}", "make one with gsqc compile MODEL -o NAME.gsqc"
        )
    if not path.is_file():
        raise BundleError(
            f"{root} is not a bundle: it has no {MANIFEST}",
            "give a directory that gsqc compile wrote",
        )
    return read_bundle_json(path, "the bundle's manifest")
