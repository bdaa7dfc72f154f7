# SPDX-License-Identifier: Apache-2.0
"""Prepares the process of the installed program: its streams, and what Ctrl-C does."""

from __future__ import annotations

import _thread
import io
import os
import signal
import sys
import threading
from typing import Any, TextIO, cast

from gsqc.cli.exit_codes import STANDARD_OUTPUT
from gsqc.errors import NoReaderError
from gsqc.training.signal_watch import SignalWatch, end_process

SECONDS_TO_END = 10
"""Ctrl-C ends a command after this time, though compiled code may hold it up."""
_SECONDS_TO_RAISE = 0.1


def prepare_process() -> None:
    """Open the streams that are closed, let them take any text, and watch for Ctrl-C."""
    _open_streams()
    sys.stdout = _text_output(sys.stdout)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        SignalWatch(_CtrlC().hear, (signal.SIGINT,)).__enter__()
        sys.unraisablehook = _unraisable


def flush_streams() -> None:
    """Write what waits. What cannot be written is dropped, or Python would complain at the end."""
    for number, stream in enumerate((sys.stdout, sys.stderr), 1):
        try:
            stream.flush()
        except (OSError, ValueError, NoReaderError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _open_streams() -> None:
    """Give closed streams a file. Otherwise the next file that is opened would take their place.

    As in the C library, what is written to them fails.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


class _StandardOutput(io.FileIO):
    """Standard output. Its errors say that they are of it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # Rich and Typer would end the program for a BrokenPipeError, without our exit code.
            raise NoReaderError("nobody reads the output", "read all of it") from None
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def _text_output(before: TextIO) -> io.TextIOWrapper:
    """Standard output, which takes any text.

    A name may hold bytes that are no text, and the terminal may know ASCII only.
    """
    raw = _StandardOutput(1, "wb", closefd=False)
    unbuffered = getattr(before, "write_through", False)
    return io.TextIOWrapper(
        cast(io.BufferedWriter, raw) if unbuffered else io.BufferedWriter(raw),
        encoding=before.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty(),
        write_through=unbuffered,
    )


class _CtrlC:
    """The first Ctrl-C raises KeyboardInterrupt, and has some seconds for it. A second has none."""

    def __init__(self) -> None:
        self.count = 0

    def hear(self, number: int) -> None:
        self.count += 1
        if self.count > 1:
            end_process(number)
        timer = threading.Timer(SECONDS_TO_END, end_process, (number,))
        timer.daemon = True
        timer.start()


def _unraisable(event: sys.UnraisableHookArgs) -> None:
    """Raise a KeyboardInterrupt again that came where none can be raised, as in a callback of C."""
    if not issubclass(event.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(event)
        return
    timer = threading.Timer(_SECONDS_TO_RAISE, _thread.interrupt_main)
    timer.daemon = True
    timer.start()
