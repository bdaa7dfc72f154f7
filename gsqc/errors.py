# SPDX-License-Identifier: Apache-2.0
"""Every error that a user can cause. Its text says what is wrong and where, its hint what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class GsqcError(Exception):
    """The base of all errors that gsqc shows to its user, in a line and without a traceback.

    hint  what to do next
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
        # A notebook and a script show an error by its traceback, which prints the notes.
        self.add_note(f"hint: {hint}")


class OptionError(GsqcError):
    """An option or argument has a value outside its range."""


class ModelError(GsqcError):
    """The model's files are missing, truncated, or of a kind that gsqc does not read."""


class UnsupportedOperatorError(GsqcError):
    """The model uses operators that have no integer form. The text names the source lines."""


class DataError(GsqcError):
    """A file of data is missing, malformed or empty. The text names file and line."""


class BundleError(GsqcError):
    """A bundle is incomplete, changed since it was written, or made for another machine."""


class BundleChangedError(BundleError):
    """A file of a bundle was changed while it was in use, so later results are not certain."""


class GoldenError(GsqcError):
    """A file of golden digests is missing, malformed, or does not fit the check."""


class RunError(GsqcError):
    """A run directory belongs to another bundle, or cannot be read or written."""


class RunTakenError(RunError):
    """Another process trains the run, because somebody deleted the lock of the first one."""


class TargetError(GsqcError):
    """A target is unknown, or this machine lacks what it needs."""


class FileError(GsqcError):
    """The system refuses a file. The text has the system's own words."""


class NoReaderError(GsqcError):
    """Whoever read standard output is gone."""


class ExportError(GsqcError):
    """An adapter or model cannot be written, or another program's adapter does not fit."""


class ConfigError(GsqcError):
    """A settings file is missing or malformed. The text names file and line."""


class CommandStreamError(GsqcError):
    """An NPU's command stream is damaged or reads what was never written.

    Also: it holds a command that the interpreter does not model.
    """


def system_error(error: OSError) -> FileError:
    """An error of the system in its own words, with the path if it is of one."""
    name = error.filename
    place = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
    return FileError(f"{place}{error.strerror or error}", "check the path, its rights and the disk")


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise the errors of the system as FileError."""
    try:
        yield
    except OSError as error:
        raise system_error(error) from error
