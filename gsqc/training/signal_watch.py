# SPDX-License-Identifier: Apache-2.0
"""SignalWatch: hears a signal at once, though compiled code keeps the main thread busy.

Python calls its handlers between two bytecodes of the main thread, and a step in compiled code is
one bytecode that may take minutes. But the interpreter writes each signal to a pipe when it comes.
A thread reads that pipe here, because compiled code lets other threads of Python run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

_NONE = -1
_SHOW_CURSOR = b"\x1b[?25h\n"


class SignalWatch:
    """Calls `heard` with each of `numbers` that comes, in a thread of its own.

    Only signals with a handler of Python are heard. The watch that was there before gets all other
    signals. Outside the main thread it does nothing, as Python takes no signals there.
    """

    def __init__(self, heard: Callable[[int], object], numbers: Collection[int]) -> None:
        """Watch for nothing yet."""
        self.heard, self.numbers = heard, frozenset(map(int, numbers))
        self._reading = self._writing = self._before = _NONE

    def __enter__(self) -> SignalWatch:
        """Begin to listen."""
        if threading.current_thread() is threading.main_thread():
            self._reading, self._writing = os.pipe()
            os.set_blocking(self._writing, False)
            self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
            threading.Thread(target=self._listen, name="gsqc signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back to the watch before."""
        if self._writing == _NONE:
            return
        try:
            signal.set_wakeup_fd(self._before)
        except (ValueError, OSError):  # that watch has ended in the meantime
            signal.set_wakeup_fd(_NONE)
        os.close(self._writing)  # the thread reads the end, and ends
        self._writing = _NONE

    def _listen(self) -> None:
        while numbers := os.read(self._reading, 64):
            for number in numbers:
                if number in self.numbers:
                    self.heard(number)
                elif self._before != _NONE:
                    with suppress(OSError):
                        os.write(self._before, bytes([number]))
        os.close(self._reading)


def end_process(number: int) -> NoReturn:
    """End the process at once, as a shell reports one that this signal ended."""
    for terminal in (2, 1):
        # A display that stays in place hides the cursor, and nobody else is left to show it.
        if os.isatty(terminal):
            with suppress(OSError):
                os.write(terminal, _SHOW_CURSOR)
            break
    os._exit(128 + number)
