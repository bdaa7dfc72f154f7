# SPDX-License-Identifier: Apache-2.0
"""Puts a result in its place: a file or a directory that is complete, or not written at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsqc.errors import ExportError


def check_place(path: Path, *, force: bool, option: str, directory: bool) -> None:
    """ExportError if something is in the way.

    `force` allows to replace a file, or a directory that holds nothing but files.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() != directory:
        is_what, wanted = ("a directory", "a file") if path.is_dir() else ("a file", "a directory")
        raise ExportError(f"{path} is {is_what}", f"give {wanted} with {option}")
    if path.is_dir() and not any(path.iterdir()):
        return
    if not force:
        what = f"{path} is not empty" if directory else f"{path} exists"
        raise ExportError(what, f"choose another place with {option}, or overwrite it with --force")
    if path.is_dir() and any(entry.is_dir() for entry in path.iterdir()):
        raise ExportError(
            f"{path} holds directories, so it is not an earlier export",
            f"choose another place with {option}",
        )


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A directory beside `path` to write in, which goes away at the end.

    An OSError becomes an ExportError.
    """
    with _errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to write in. At the end it takes the place of `path`.

    If something fails, `path` is as it was.
    """
    with workspace(path) as outer:
        work, old = outer / "new", outer / "old"
        work.mkdir(mode=0o755)
        yield work
        if path.exists():
            path.rename(old)
        try:
            work.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write. At the end it takes the place of `path`.

    If something fails, `path` is as it was.
    """
    with _errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield work
            work.replace(path)
        finally:
            with contextlib.suppress(OSError):
                work.unlink(missing_ok=True)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or error}; no partial file is left",
            "choose another place, or free some disk space",
        ) from None
