# SPDX-License-Identifier: Apache-2.0
"""kept_records: writes records in memory into the run's directory, so that it can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gsqc.data.in_memory import Records, as_jsonl
from gsqc.errors import GsqcError, RunError
from gsqc.files.reading import read_file
from gsqc.files.writing import replace_file
from gsqc.runtime.store import CONFIG, MAXIMUM_FILE_BYTES
from gsqc.training.lock import RunLock


@contextmanager
def kept_records(run: Path, name: str, records: Records) -> Iterator[Path]:
    """A file of the run with these records: NAME-SHA256.jsonl, with 12 digits of the hash.

    Other records have another name, so they never replace those that the run began with. After an
    error a file that no run needs goes away. Raises DataError, RunError.
    """
    content = as_jsonl(name, records)
    path = run / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
    is_new_run, is_new = not run.exists(), not path.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        replace_file(path, [content])
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}", "give another directory with --run"
        ) from None
    try:
        yield path
    except BaseException:
        if is_new and not _is_named(run, path.name):
            path.unlink(missing_ok=True)
        if is_new_run:
            _remove_empty(run)
        raise


def _is_named(run: Path, name: str) -> bool:
    """Whether the run's settings name the file."""
    try:
        content = read_file(run / CONFIG, most_bytes=MAXIMUM_FILE_BYTES, links=False)
    except OSError:
        return False
    return name.encode() in content


def _remove_empty(run: Path) -> None:
    """Remove a directory that holds nothing but the lock of a run that never began."""
    with suppress(GsqcError, OSError):
        lock = RunLock(run)
        lock.is_new = True
        lock.release()
