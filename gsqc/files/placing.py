# SPDX-License-Identifier: Apache-2.0
"""Puts a result in its place: a file or a directory that is complete, or not there at all.

A result is made in a workspace, a directory beside its place whose random name nobody can know
before. Its maker holds a lock on it. A workspace without a holder was left by a process that was
killed: the next command for the same place removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsqc.files.writing import is_temporary, opened_directory, sync_tree, temporary_name

NEW, OLD = "new", "old"
"""In a workspace: what is made, and what it replaced."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2."""
_HERE = -100
"""AT_FDCWD: paths are relative to the working directory."""
_LOG = logging.getLogger("gsqc")


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A new directory beside `path` to write in, which goes away at the end. Raises OSError.

    Before, `recover` looks after what killed processes left there.
    """
    recover(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(temporary_name(path.name))
    work.mkdir(mode=0o700)
    with opened_directory(work) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to write in. At the end it takes the place of `path`.

    If something fails, `path` is as it was. Raises OSError.
    """
    with workspace(path) as outer:
        work = outer / NEW
        work.mkdir(mode=0o755)
        yield work
        put_directory(work, path)


def put_directory(work: Path, path: Path) -> None:
    """Put the directory NEW of a workspace in its place. What was there goes with the workspace.

    At any moment there is the old directory or the new one. Raises OSError, and then it is the old
    one.
    """
    sync_tree(work)
    _swap(work, path, work.with_name(OLD))
    _sync(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """The path of a file to write. At the end it takes the place of `path`, if it exists.

    If something fails, `path` is as it was. Raises OSError.
    """
    with workspace(path) as outer:
        work = outer / NEW
        yield work
        sync_tree(outer)
        os.replace(work, path)
        _sync(path.parent)


def recover(path: Path) -> None:
    """Remove workspaces for `path` whose process was killed, and say so.

    On a file system that cannot exchange two names, the process may have been killed between its
    two renames. Then what was at `path` is put back. Raises OSError.
    """
    for entry in os.listdir(path.parent) if path.parent.exists() else []:
        if not is_temporary(entry, path.name):
            continue
        left = path.parent / entry
        with contextlib.suppress(OSError), opened_directory(left) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (left / OLD).exists() and not path.exists():
                os.rename(left / OLD, path)
                _LOG.warning("put %s back, which an interrupted command had moved", path)
            shutil.rmtree(left)
            _LOG.warning("removed %s, which an interrupted command left", left)


def _swap(work: Path, path: Path, old: Path) -> None:
    """Put `work` at `path`. What was there lies below the workspace afterwards."""
    if not path.exists():
        os.rename(work, path)
        return
    try:
        _exchange(work, path)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        os.rename(path, old)
        try:
            os.rename(work, path)
        except OSError:
            os.rename(old, path)
            raise


def _exchange(first: Path, second: Path) -> None:
    """Exchange two names at once. OSError, with ENOSYS where the system has no such call."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (os.fsencode(first), os.fsencode(second))
    if renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(second))


def _sync(directory: Path) -> None:
    with opened_directory(directory) as descriptor:
        os.fsync(descriptor)
