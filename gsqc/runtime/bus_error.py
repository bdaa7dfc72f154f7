# SPDX-License-Identifier: Apache-2.0
"""A sentence in place of a crash when a mapped file is cut short.

The system then sends SIGBUS to whoever reads the part that is gone. Nothing can go on after that:
the kernel that was reading never returns.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
from functools import cache

USER_ERROR = 2
MESSAGE = (
    b"error: a file of the bundle was cut short while it was in use; bring the bundle back as it "
    b"was and run the same command again: the state saved before is whole\n"
)


def _end(number: int) -> None:
    os.write(2, MESSAGE)
    os._exit(USER_ERROR)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)
"""It has to live as long as the process."""


@cache
def explain_bus_errors() -> None:
    """Let SIGBUS end the process with a sentence. A program with faulthandler keeps that."""
    # Python's own handlers run between two bytecodes, which never come. This one runs at once.
    if faulthandler.is_enabled():
        return
    system = ctypes.CDLL(None)
    system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    system.signal.restype = ctypes.c_void_p
    system.signal(signal.SIGBUS, ctypes.cast(_HANDLER, ctypes.c_void_p))
