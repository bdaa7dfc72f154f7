# SPDX-License-Identifier: Apache-2.0
"""Where an export goes: what it may overwrite, and the error if it cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path

from gsqc.errors import ExportError
from gsqc.files import placing


def check_place(path: Path, *, force: bool, option: str, directory: bool) -> None:
    """ExportError if something is in the way.

    `force` allows to replace a file, or a directory that holds nothing but files.
    """
    placing.recover(path)
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


def _for_exports(
    place: Callable[[Path], AbstractContextManager[Path]],
) -> Callable[[Path], AbstractContextManager[Path]]:
    """A context manager of files/placing.py, whose OSError becomes an ExportError."""

    @wraps(place)
    @contextmanager
    def placed(path: Path) -> Iterator[Path]:
        try:
            with place(path) as work:
                yield work
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror or error}; no partial file is left",
                "choose another place, or free some disk space",
            ) from None

    return placed


workspace = _for_exports(placing.workspace)
new_directory = _for_exports(placing.new_directory)
new_file = _for_exports(placing.new_file)
