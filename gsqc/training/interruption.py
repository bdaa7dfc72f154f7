# SPDX-License-Identifier: Apache-2.0
"""Interruption: stops a training run between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from gsqc.errors import GsqcError
from gsqc.training.signal_watch import SignalWatch, end_process

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_SIGNAL_SECONDS = 0.5
"""Signals within this time are one: `timeout` sends its own to the process and to its group."""

TELLING_SECONDS = 1
"""How long the end of a run waits for what the first signal's thread prints."""


def stopping(step_seconds: float | None) -> str:
    """What is said at the first signal. `step_seconds` is how long the last step took."""
    about = "" if step_seconds is None else f" (about {step_seconds:.2g} s)"
    if step_seconds is not None and step_seconds >= 10:
        about = f" (about {step_seconds:.0f} s)"
    return f"stopping after this step{about}; a second signal stops at once"


class Interruption:
    """Notes the first Ctrl-C or SIGTERM in `number`. The second one raises KeyboardInterrupt.

    An update that stops half way would leave a state that is neither the old nor the new one, so
    the step ends first. `tell` is called at the first signal, during that step. With `ends_process`
    the second signal ends the process, whatever runs. Outside the main thread an interruption does
    nothing, for Python handles no signals there.
    """

    def __init__(self) -> None:
        """Start with no signal noted."""
        self.number: int | None = None
        self.tell: Callable[[], object] = lambda: None
        self.ends_process = False
        self._before: dict[signal.Signals, Any] = {}
        self._watch = SignalWatch(self._hear, SIGNALS)
        self._heard: float | None = None
        self._noted = 0.0
        self._telling = threading.Lock()
        self._teller: threading.Thread | None = None
        self._is_over = False

    @property
    def exit_code(self) -> int:
        """The code by which a shell reports a process that the signal ended, or 0."""
        return 0 if self.number is None else 128 + self.number

    def __enter__(self) -> Interruption:
        """Take the signals over."""
        self._watch.__enter__()
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._watch.__exit__(kind, error, trace)
        with self._telling:
            self._is_over, teller = True, self._teller
        if teller is not None:  # or its words would come after those of the run's end
            teller.join(TELLING_SECONDS)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._noted = number, now
        elif now - self._noted > ONE_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    def _hear(self, number: int) -> None:
        """In the thread of the watch: tell the first signal, and end the process at the second."""
        now = time.monotonic()
        if self._heard is not None and now - self._heard > ONE_SIGNAL_SECONDS and self.ends_process:
            end_process(number)
        if self._heard is not None:
            return
        self._heard = now
        with self._telling:
            if not self._is_over:
                # Printing may wait for its reader, and the second signal must be heard even then.
                self._teller = threading.Thread(target=self._tell, daemon=True)
                self._teller.start()

    def _tell(self) -> None:
        with suppress(OSError, GsqcError):  # if nobody reads it, the run stops all the same
            self.tell()
