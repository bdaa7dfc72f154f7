# SPDX-License-Identifier: Apache-2.0
"""RunLock: makes sure that one process at a time trains a run.

The system frees the lock when its holder ends, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from gsqc.errors import RunError, RunTakenError
from gsqc.files.writing import open_own

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
        except OSError as error:
            raise RunError(
                f"cannot make {path}: {error.strerror}", "give another directory with --run"
            ) from None
        self._file = self._open()
        if not self._take(self._file):
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise RunError(
                f"{path} is being trained by {who}", "wait for it, or give another --run"
            )

    def _open(self) -> int:
        """The lock file, which is made if it does not exist. RunError if it cannot be one."""
        try:
            return open_own(self.path / LOCK, os.O_RDWR)
        except OSError as error:
            raise RunError(
                f"cannot lock {self.path}: {LOCK}: {error.strerror}",
                f"delete {self.path / LOCK} if no process trains the run, or give another --run",
            ) from None

    def _take(self, file: int) -> bool:
        """Lock a file and write this process's id into it. False if another process holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # a file system without locks
            os.close(file)
            raise RunError(
                f"cannot lock {self.path}: {error.strerror}", "put --run on a local disk"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        return True

    def require(self) -> None:
        """Make sure that the lock still keeps other processes away.

        If the lock file was deleted, a new one is made and locked. RunTakenError if another process
        was quicker: it may have trained the run meanwhile.
        """
        try:
            is_taken = not os.path.samestat(os.lstat(self.path / LOCK), os.fstat(self._file))
        except FileNotFoundError:
            file = self._open()
            is_taken = not self._take(file)
            os.close(file if is_taken else self._file)
            self._file = self._file if is_taken else file
        if is_taken:
            raise RunTakenError(
                f"{self.path} was taken over by another process, as its {LOCK} was deleted",
                "the steps since the last save were left out: let the other process go on",
            )

    def release(self) -> None:
        """Free the lock. A directory that was made for it and holds nothing else goes away."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if self.is_new and os.listdir(self.path) == [LOCK]:
                (self.path / LOCK).unlink()
                self.path.rmdir()
        os.close(self._file)
        self._file = -1
