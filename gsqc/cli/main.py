# SPDX-License-Identifier: Apache-2.0
"""The program `gsqc`: runs a command, and says in one line what went wrong.

The commands are imported inside the handler. So Ctrl-C gives no traceback while Python reads them.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from gsqc.cli.exit_codes import INTERRUPTED, USER_ERROR


def main(arguments: Sequence[str] | None = None, *, owns_process: bool = False) -> int:
    """Run a command and return its exit code.

    It is 0 for success, 1 if a check fails or standard output cannot be written, 2 for a user's
    error, 70 for a fault of gsqc, 130 for Ctrl-C, and 141 if the reader of the output is gone. If
    this process runs nothing else, a second Ctrl-C ends it, whatever runs.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            from gsqc.cli.app import execute

            code = execute(argv, owns_process=owns_process)
            sys.stdout.flush()
            return code
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a library's panic is no Exception
            from gsqc.cli.failure import tell_failure

            return tell_failure(error, as_json="--json" in argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else USER_ERROR


def run() -> None:
    """Entry point of the installed program."""
    try:
        from gsqc.cli.process import flush_streams, prepare_process

        prepare_process()
        code = main(owns_process=True)
        flush_streams()
        # Nothing is left to do but to end, so Ctrl-C may end it at once and silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    run()
