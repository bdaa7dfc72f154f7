# SPDX-License-Identifier: Apache-2.0
"""RunLock: makes sure that one process at a time trains a run.

The system frees the lock when its holder ends, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from gsqc.errors import RunError

LOCK = "lock"


class RunLock:
    """An exclusive lock on a run directory. gsqc-step takes the same lock.

    The directory is made if it does not exist. The lock file holds the id of the last process that
    took the lock, for the error text. What counts is the system's lock on that file. Raises
    RunError if another process holds it.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock."""
        self.path, self.is_new = path, not path.exists()
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file", "give a directory with --run")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunError(
                f"cannot make {path}: {error.strerror}", "give another directory with --run"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise RunError(
                f"{path} is being trained by {who}", "wait for it, or give another --run"
            ) from None
        except OSError as error:  # a file system without locks
            os.close(self._file)
            raise RunError(
                f"cannot lock {path}: {error.strerror}", "put --run on a local disk"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Free the lock. A directory that was made for it and holds nothing else goes away."""
        if self._file < 0:
            return
        if self.is_new and os.listdir(self.path) == [LOCK]:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
                self.path.rmdir()
        os.close(self._file)
        self._file = -1
