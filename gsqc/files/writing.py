# SPDX-License-Identifier: Apache-2.0
"""Writes files. A stranger's directory may hold links, so no file is ever written through one.

A file is written under a random name in the opened directory of its place, and renamed when it is
complete on disk. At any moment the place holds the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from gsqc.errors import FileError
from gsqc.files.reading import open_file, require_plain

CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Content = Iterable[bytes | memoryview]
_LOG = logging.getLogger("gsqc")


def temporary_name(name: str) -> str:
    """A random name beside `name`, which `is_temporary` knows. Long names are cut to fit."""
    return f".{name[:200]}.{secrets.token_hex(8)}.tmp"


def is_temporary(entry: str, name: str) -> bool:
    """Whether `temporary_name(name)` can have given this name of a directory's entry."""
    return re.fullmatch(rf"\.{re.escape(name[:200])}\.[0-9a-f]{{16}}\.tmp", entry) is not None


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory. Names can then be used relative to it, whatever moves."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def create_file(path: Path, *, mode: int = 0o666) -> BufferedWriter:
    """A new file, opened for writing. OSError if anything has its name."""
    return os.fdopen(os.open(path, os.O_WRONLY | CREATE, mode), "wb")


def write_new(path: Path, content: str | bytes) -> None:
    """Write a new file. A text becomes UTF-8. OSError if anything has its name."""
    with create_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def copy_file(source: Path, path: Path) -> None:
    """Copy a plain file to a new one."""
    with open_file(source) as old, create_file(path) as new:
        shutil.copyfileobj(old, new, 1 << 20)


def replace_file(path: Path, content: Content, *, durable: bool = True) -> None:
    """Replace a file, or a link, by a new file that is complete on disk.

    durable  wait for the disk. Without, a loss of power may leave a damaged file

    Temporary files that killed processes left for the same path are removed. Raises OSError, and
    then what was there is still there.
    """
    with opened_directory(path.parent) as directory:
        remove_leftovers(path.parent, [path.name])
        descriptor, temporary = _create_temporary(directory, path.name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        if durable:
            os.fsync(directory)


def write_result(path: Path, content: Content) -> None:
    """Write a file that the user named, and its directory if it is missing. Raises FileError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror}", "choose another place, or free some space"
        ) from None


def _create_temporary(directory: int, name: str) -> tuple[int, str]:
    """A new file that stands for `name`, and its own name. Its lock says that its maker lives."""
    while True:
        temporary = temporary_name(name)
        descriptor = os.open(temporary, os.O_WRONLY | CREATE, 0o666, dir_fd=directory)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)


def append_to_file(path: Path, content: bytes) -> None:
    """Add to a file, which is made if it does not exist. OSError if nothing could be added."""
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
    before = os.fstat(descriptor).st_size
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
    finally:
        os.close(descriptor)


def open_own(path: Path, access: int) -> int:
    """A descriptor of a plain file, to be changed in place. It is made if it does not exist.

    access  os.O_RDWR, or os.O_WRONLY, which can have further flags

    OSError if it is a link, or if another name leads to the same file (a hard link).
    """
    flags = access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            require_plain(os.lstat(path), path)
        raise
    try:
        status = os.fstat(descriptor)
        require_plain(status, path)
        if status.st_nlink > 1:
            raise OSError(errno.EINVAL, "another file name leads to it (a hard link)", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_leftovers(directory: Path, names: Iterable[str]) -> None:
    """Remove temporary files of `names` whose process was killed, and say so."""
    known = list(names)
    for entry in os.listdir(directory):
        if not any(is_temporary(entry, name) for name in known):
            continue
        left = directory / entry
        with contextlib.suppress(OSError), open_file(left, links=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(left)
            _LOG.warning("removed %s, which an interrupted command left", left)


def sync_tree(directory: Path) -> None:
    """Wait until all files below a directory are on disk."""
    for place, _, names in os.walk(directory):
        for name in [*names, "."]:
            descriptor = os.open(Path(place, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) or name == ".":
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
