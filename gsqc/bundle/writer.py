# SPDX-License-Identifier: Apache-2.0
"""BundleWriter: writes a bundle beside its place, and moves it there when it is complete."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import MANIFEST, PLAN, file_sha256, safe_path
from gsqc.bundle.manifest import AGAIN, FileEntry, Manifest
from gsqc.bundle.plan import Plan
from gsqc.bundle.tensor_file import LateTensor, tensor_file
from gsqc.errors import BundleError
from gsqc.files.placing import NEW, put_directory, recover, workspace
from gsqc.files.writing import copy_file, create_file, write_new

Array = npt.NDArray[Any]


class BundleWriter:
    """Writes a bundle beside its place and renames it at the end. A failure leaves what was there.

    Use it as a context manager. `finish` completes the bundle. Raises BundleError if `path` exists
    and `force` is not set, if it is no bundle, or if a file cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        with self._errors("choose another place with -o"):
            recover(path)
        if path.exists() and not force:
            raise BundleError(
                f"{path} exists", "choose another name with -o, or overwrite it with --force"
            )
        if path.exists() and not (path / MANIFEST).is_file():
            raise BundleError(f"{path} exists and is not a bundle", "choose another name with -o")
        self.files: dict[str, FileEntry] = {}

    def __enter__(self) -> BundleWriter:
        self._workspace = workspace(self.path)
        with self._errors("choose another place with -o"):
            self.root = self._workspace.__enter__() / NEW
            self.root.mkdir(mode=0o755)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._workspace.__exit__(kind, error, trace)

    @contextmanager
    def _errors(self, hint: str) -> Iterator[None]:
        """OSError becomes BundleError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise BundleError(f"cannot write {self.path}: {reason}", hint) from None

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """Gives the place of a file, and records the file. OSError becomes BundleError."""
        path = safe_path(self.root, name)
        with self._errors("free some disk space and compile again"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            yield path
            self.files[name] = FileEntry(file_sha256(path), path.stat().st_size)

    def add_bytes(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file with this content and these permissions, in place of an earlier one."""
        with self._writing(name) as path:
            write_new(path, content)
            path.chmod(mode)

    def add_file(self, bundle: Bundle, name: str) -> None:
        """Add a copy of a file of another bundle, executable if it is. Raises BundleError."""
        source = bundle.file(name)
        with self._writing(name) as path:
            copy_file(source, path)
            path.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)
        if self.files[name] != bundle.manifest.files[name]:
            raise BundleError(f"{source} was changed while it was copied", AGAIN)

    def add_tensors(self, name: str, tensors: Mapping[str, Array | LateTensor]) -> None:
        """Add a safetensors file of integer tensors."""
        with self._writing(name) as path, create_file(path) as file:
            file.writelines(tensor_file(tensors))

    def add_manifest(self, manifest: Manifest, plan: Plan) -> Path:
        """Write the plan, and the manifest with all files, for the first time or again.

        Gives the path at which the bundle can be opened before it is in its place.
        """
        self.add_bytes(PLAN, _json(plan.to_json()))
        self.add_bytes(MANIFEST, _json(replace(manifest, files=self.files).to_json()))
        del self.files[MANIFEST]  # a manifest cannot hold its own hash
        return self.root

    def finish(self, manifest: Manifest, plan: Plan) -> None:
        """Write plan and manifest, and put the bundle in its place."""
        self.add_manifest(manifest, plan)
        with self._errors("choose another place with -o"):
            put_directory(self.root, self.path)


def _json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
