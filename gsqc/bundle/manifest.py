# SPDX-License-Identifier: Apache-2.0
"""The manifest: reading it, and checking that it and the files that it names are what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from gsqc.errors import BundleError
from gsqc.numerics.optim import OPTIMIZERS

FORMAT_VERSION = 1
MAXIMUM_MANIFEST_BYTES = 256 << 20
AGAIN = "compile the model again (gsqc compile … --force)"


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


def check_file(root: Path, name: str, entry: dict[str, Any]) -> Path:
    """The path of a listed file; BundleError unless it is there as it was written."""
    file = safe_path(root, name)
    if not file.is_file():
        raise BundleError(f"the bundle lacks its file {name}", AGAIN)
    if file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
        raise BundleError(
            f"{name} was changed since the bundle was written (its hash differs)", AGAIN
        )
    return file


def check_fields(manifest: dict[str, Any]) -> None:
    """BundleError unless the fields that a session reads are there, with values that it can take."""
    problems = [
        name
        for name in ("target", "model", "files", "plan")
        if not isinstance(manifest.get(name), dict)
    ]
    entry = manifest["target"] if "target" not in problems else {}
    features = entry.get("cpu_features")
    problems += [
        f"target.{name}" for name in ("name", "triple") if not isinstance(entry.get(name), str)
    ]
    if not isinstance(features, list) or not all(isinstance(f, str) for f in features):
        problems.append("target.cpu_features")
    numbers = {name: manifest.get(name) for name in ("sequence_length", "batch")}
    if not problems:
        numbers["model.vocabulary"] = manifest["model"].get("vocabulary")
    problems += [name for name, n in numbers.items() if type(n) is not int or not 1 <= n < 2**31]
    if manifest.get("optimizer") not in OPTIMIZERS:
        problems.append("optimizer")
    if problems:
        raise BundleError(f"the bundle's manifest is malformed: {', '.join(problems)}", AGAIN)


def read_manifest(root: Path) -> tuple[dict[str, Any], str]:
    """The manifest, and its sha256."""
    path = root / "manifest.json"
    if not root.exists():
        raise BundleError(
            f"no such bundle: {root}", "make one with gsqc compile MODEL -o NAME.gsqc"
        )
    if not path.is_file():
        raise BundleError(
            f"{root} is not a bundle: it has no manifest.json",
            "give a directory that gsqc compile wrote",
        )
    if path.stat().st_size > MAXIMUM_MANIFEST_BYTES:
        raise BundleError("the bundle's manifest is too large to be one", AGAIN)
    content = path.read_bytes()
    try:
        manifest = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise BundleError("the bundle's manifest.json is not JSON", AGAIN) from None
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        version = manifest.get("format_version") if isinstance(manifest, dict) else None
        raise BundleError(
            f"the bundle has format {version}, this gsqc reads format {FORMAT_VERSION}",
            "compile the model again, or install the gsqc that wrote the bundle",
        )
    return dict(manifest), hashlib.sha256(content).hexdigest()
