# SPDX-License-Identifier: Apache-2.0
"""tell_failure: says in one line why a command failed, and gives its exit code."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import traceback
from pathlib import Path

from gsqc.cli.exit_codes import BROKEN_PIPE, FAULT, OUTPUT_ERROR, STANDARD_OUTPUT, USER_ERROR
from gsqc.cli.output import print_error
from gsqc.errors import GsqcError, NoReaderError, OptionError, system_error
from gsqc.files.writing import write_new

TRACEBACK = "GSQC_TRACEBACK"
"""The environment variable that shows a fault's traceback on stderr, if it is 1."""
_LONGEST = 400


def tell_failure(error: BaseException, *, as_json: bool) -> int:
    """Print the error, and return the exit code."""
    if isinstance(error, BrokenPipeError | NoReaderError):
        return BROKEN_PIPE
    if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
        message = f"cannot write to standard output: {error.strerror}"
        print_error(message, "send it to another place", as_json=False)
        return OUTPUT_ERROR
    if isinstance(error, MemoryError):
        error = OptionError(
            "there is not enough memory",
            "close other programs and run it again, or see what fits with gsqc plan",
        )
    if isinstance(error, OSError):
        error = system_error(error)
    if isinstance(error, GsqcError):
        print_error(str(error), error.hint, as_json=as_json)
        return USER_ERROR
    what = f"{type(error).__name__}: {error}"[:_LONGEST]
    hint = f"please report it with the output of gsqc info; {_keep_traceback(error)}"
    print_error(f"gsqc has a fault: {what}", hint, as_json=as_json)
    return FAULT


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback to stderr or to a new file, and say where it is."""
    text = "".join(traceback.format_exception(error))
    try:
        if os.environ.get(TRACEBACK) == "1":
            sys.stderr.write(text)
            return "its traceback is above"
        kept = Path(tempfile.gettempdir()) / f"gsqc-fault-{secrets.token_hex(8)}.txt"
        write_new(kept, text.encode(errors="backslashreplace"))
    except OSError:
        return f"{TRACEBACK}=1 shows its traceback"
    return f"its traceback is in {kept}"
