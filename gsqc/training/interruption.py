# SPDX-License-Identifier: Apache-2.0
"""Interruption: stops a training run between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes the first Ctrl-C or SIGTERM in `number`. The second one raises KeyboardInterrupt.

    An update that stops half way would leave a state that is neither the old nor the new one, so
    the step ends first. Outside the main thread it does nothing, for Python handles no signals
    there.
    """

    def __init__(self) -> None:
        """Start with no signal noted."""
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """The code by which a shell reports a process that the signal ended, or 0."""
        return 0 if self.number is None else 128 + self.number

    def __enter__(self) -> Interruption:
        """Take the signals over."""
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

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
