# SPDX-License-Identifier: Apache-2.0
"""Pacing: a run on a phone or a laptop leaves time to others, and stops before the battery is
empty. MobileFineTuner's energy-aware scheduling (arXiv 2512.08211) has both.

Neither changes a bit of the run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from gsqc.decimals import exact_fraction
from gsqc.option import option
from gsqc.training.battery import read_battery
from gsqc.training.callbacks import Event, Note
from gsqc.training.interruption import Interruption

_NAP_SECONDS = 0.2
"""A rest is made of these, so that Ctrl-C ends it."""
MACHINE = "This machine"


def percent(text: str) -> Fraction | None:
    """A text such as "50%" as a fraction in (0, 1]. None for any other."""
    value = exact_fraction(text[:-1], 100) if text.endswith("%") else None
    return value / 100 if value else None


@dataclass(frozen=True, kw_only=True)
class PaceOptions:
    """How a run goes easy on the machine."""

    pace: str | None = option(
        None,
        help="Share of the time that training takes, such as 50%. The run sleeps for the rest.",
        group=MACHINE,
        example="50%",
    )
    pause_below: str | None = option(
        None,
        help="Stop as Ctrl-C does, with the state saved, when the battery falls below this.",
        group=MACHINE,
        example="20%",
    )

    @property
    def share(self) -> Fraction:
        """The share of the time that training takes."""
        return Fraction(1) if self.pace is None else percent(self.pace) or Fraction(1)

    def pace_problems(self) -> list[str]:
        """A sentence for each value that is no percentage."""
        given = {"--pace": self.pace, "--pause-below": self.pause_below}
        return [
            f"{name} {text} is not a share above 0%, as in 50%"
            for name, text in given.items()
            if isinstance(text, str) and percent(text) is None
        ]


class Pacing:
    """Rests between steps, and looks at the battery before each."""

    def __init__(
        self, options: PaceOptions, interruption: Interruption, tell: Callable[[Note], object]
    ) -> None:
        """Begin before the first step. `tell` takes what is to be said of the battery."""
        self._options, self._interruption, self._tell = options, interruption, tell
        self._began: float | None = None
        self._is_told = False

    def stops_before_step(self) -> bool:
        """Rest from the step before, and look at the battery: whether the run is interrupted."""
        if self._began is not None and self._options.share < 1:
            self._rest(time.monotonic() - self._began)
        if self._options.pause_below is not None:
            self._heed_battery(self._options.pause_below)
        self._began = time.monotonic()
        return self._interruption.number is not None

    def stretched(self, seconds: float) -> float:
        """How long something takes with the rest after it."""
        return seconds / float(self._options.share)

    def _rest(self, worked: float) -> None:
        end = time.monotonic() + self.stretched(worked) - worked
        while self._interruption.number is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))

    def _heed_battery(self, least: str) -> None:
        battery, limit = read_battery(), percent(least)
        if battery is None:
            if not self._is_told:
                self._is_told = True
                text = f"this machine shows no battery, so --pause-below {least} stops nothing"
                self._tell(Note(text, Event.WARNING))
            return
        is_low = limit is not None and Fraction(battery.percent, 100) < limit
        if is_low and not battery.charges and self._interruption.number is None:
            text = f"the battery is at {battery.percent} %, below {least}: the run stops"
            self._tell(Note(text, Event.WARNING, {"battery": battery.percent}))
            self._interruption.number = signal.SIGINT
