# SPDX-License-Identifier: Apache-2.0
"""Every error that a user can cause. The text says what and where; the hint says what to do next."""

from __future__ import annotations


class GsqcError(Exception):
    """Base of all errors that gsqc reports to its user, in one line and without a traceback."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class OptionError(GsqcError):
    """An option or argument has a value outside its range."""


class ModelError(GsqcError):
    """The model's files are missing, truncated, or of a kind that gsqc does not read."""


class UnsupportedOperatorError(GsqcError):
    """The model uses operators that have no integer form; the text names the user's source lines."""


class DataError(GsqcError):
    """A training or evaluation file is missing, malformed or empty; the text names file and line."""


class BundleError(GsqcError):
    """A bundle is incomplete, changed since it was written, or made for another machine."""


class GoldenError(GsqcError):
    """A file of golden digests is missing, malformed, or does not fit the check that was asked for."""


class RunError(GsqcError):
    """A run directory belongs to another bundle, or cannot be read or written."""


class TargetError(GsqcError):
    """A target is unknown, or this machine lacks what it needs."""


class ExportError(GsqcError):
    """An adapter or model cannot be written, or an adapter of another program does not fit a
    bundle.
    """


class ConfigError(GsqcError):
    """A settings file is missing or malformed; the text names file and line."""


class CommandStreamError(GsqcError):
    """An NPU command stream is damaged, reads what was never written, or holds what the interpreter
    does not model.
    """
