# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: where they lie, and that they are what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from gsqc.bundle.manifest import AGAIN, FileEntry
from gsqc.errors import BundleError

MANIFEST = "manifest.json"
MAXIMUM_MANIFEST_BYTES = 256 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_path(root: Path, name: str) -> Path:
    """The file of a relative name without `..`, links or absolute parts; BundleError otherwise."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise BundleError(f"the manifest names a file outside the bundle: {name!r}", AGAIN)
    path = root.joinpath(*pure.parts)
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise BundleError(f"{name} is a link; a bundle holds plain files", AGAIN)
    return path


def check_file(root: Path, name: str, entry: FileEntry) -> Path:
    """The path of a listed file; BundleError unless it is there as it was written."""
    file = safe_path(root, name)
    if not file.is_file():
        raise BundleError(f"the bundle lacks its file {name}", AGAIN)
    if file.stat().st_size != entry.bytes or file_sha256(file) != entry.sha256:
        raise BundleError(
            f"{name} was changed since the bundle was written (its hash differs)", AGAIN
        )
    return file


def read_manifest_data(root: Path) -> tuple[Any, str]:
    """The JSON of a bundle's manifest, and its sha256."""
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
    if path.stat().st_size > MAXIMUM_MANIFEST_BYTES:
        raise BundleError("the bundle's manifest is too large to be one", AGAIN)
    content = path.read_bytes()
    try:
        return json.loads(content.decode()), hashlib.sha256(content).hexdigest()
    except (ValueError, RecursionError):
        raise BundleError(f"the bundle's {MANIFEST} is not JSON", AGAIN) from None
