# SPDX-License-Identifier: Apache-2.0
"""Movement: notices a run whose weights stay where they are."""

from __future__ import annotations

from gsqc.runtime.digest import state_digest
from gsqc.runtime.session import Session
from gsqc.training.callbacks import Event, Note
from gsqc.training.learning_rate import LearningRate

WATCHED_STEPS = 3
"""Steps without a changed weight, after which the run says so."""
_FINEST = 2.0**-24
"""Adapter weights are multiples of it (docs/number-format.md)."""


class Movement:
    """Watches the adapter's weights until a step moves one.

    An update below half of 2^-24 rounds to nothing. AdamW's moments change all the same, so the
    state's digest does not show it.
    """

    def __init__(self, session: Session, rates: LearningRate) -> None:
        """Note the weights as they are."""
        self.session, self.rates, self.steps = session, rates, 0
        state = session.state()
        names = [name for name in session.bundle.manifest.adapter.matrices if name in state]
        self._weights = {name: state[name] for name in names}
        self._before = self._digest()

    def _digest(self) -> str | None:
        """The digest of the weights. None when nothing is watched any more."""
        return state_digest(self._weights, 0, 1) if self._weights else None

    def after_step(self, *, is_last: bool) -> Note | None:
        """The warning, once, if no step so far has moved a weight."""
        if self._before is None:
            return None
        self.steps += 1
        if self._digest() != self._before:
            self._before = None
        elif self.steps == WATCHED_STEPS or is_last:
            self._before = None
            return self._warning()
        return None

    def _warning(self) -> Note:
        step = self.session.step_count
        rate = float(self.rates.at(step))
        steps = "a step" if self.steps == 1 else f"{self.steps} steps"
        cure = "raise --lr"
        if step < self.rates.warmup:
            cure += " or shorten --warmup"
        text = (
            f"no weight has moved in {steps}: the learning rate of step {step} is {rate:.2g}, and "
            f"weights are multiples of 2^-24 ({_FINEST:.2g}); {cure}"
        )
        return Note(text, Event.WARNING, {"learning_rate": rate})
