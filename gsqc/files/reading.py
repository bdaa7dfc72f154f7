# SPDX-License-Identifier: Apache-2.0
"""Opens plain files only. Reading a FIFO may wait for ever, and a device may have no end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "it is a directory"),
    (stat.S_ISLNK, "it is a link"),
    (stat.S_ISFIFO, "it is a FIFO"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


def open_file(path: Path, *, links: bool = True) -> BufferedReader:
    """A plain file, opened for reading.

    links  whether the path may be a link. A user's own path may be one, and so may a file of a
           model's directory: Hugging Face's cache consists of links. A file of a bundle or of a
           run may not.

    Raises OSError. Its strerror says what stands in the file's place, if that is no plain file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:  # a zero byte in the name
        raise OSError(errno.EINVAL, "its name is not valid", repr(path)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            require_plain(os.lstat(path), path)
        raise
    try:
        require_plain(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, *, most_bytes: int | None = None, links: bool = True) -> bytes:
    """The content of a plain file. As `open_file`, and OSError if it has more than `most_bytes`."""
    with open_file(path, links=links) as file:
        size = os.fstat(file.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            raise OSError(
                errno.EFBIG,
                f"it has {size >> 20} MiB, and at most {most_bytes >> 20} are read",
                str(path),
            )
        return file.read()


def require_plain(status: os.stat_result, path: Path) -> None:
    """OSError, which says what it is, unless this is a plain file."""
    for is_kind, what in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"{what}, not a plain file", str(path))
