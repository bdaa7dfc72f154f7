# SPDX-License-Identifier: Apache-2.0
"""Trainer: steps a run to its end, evaluates it, keeps the best state and saves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gsqc.data import Dataset, TokenSequence
from gsqc.errors import BundleChangedError, GsqcError
from gsqc.runtime.session import Session
from gsqc.runtime.store import RunStore
from gsqc.training.callbacks import Callbacks, End, Entry, Event, Note, StopTraining
from gsqc.training.forecast import plan_run
from gsqc.training.held_out import HeldOut
from gsqc.training.interruption import Interruption, stopping
from gsqc.training.memory import peak_rss_bytes
from gsqc.training.movement import Movement
from gsqc.training.notes import FirstSteps, State
from gsqc.training.options import TrainOptions
from gsqc.training.pacing import Pacing
from gsqc.training.progress import Best, best_of
from gsqc.training.run_files import RunFiles


class _Interrupted(Exception):
    """A signal came while held-out data was evaluated."""


@dataclass
class Trainer:
    """An open run: a session, a locked store with its config written, data and options.

    validation  the sequences of an evaluation
    entries     the lines of the log so far
    notes       what the run has told beside its log
    """

    session: Session
    store: RunStore
    dataset: Dataset
    held_out: HeldOut
    options: TrainOptions
    callbacks: Callbacks = field(default_factory=Callbacks)
    entries: list[Entry] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)
    _is_whole: bool = True
    _step_seconds: float | None = None
    _evaluation_seconds: float | None = None

    def __post_init__(self) -> None:
        """Draw the sequences of the evaluations."""
        self.validation: Sequence[TokenSequence] = self.held_out.drawn()
        self._pacing = Pacing(self.options, self.interruption, self._tell)
        self._files = RunFiles(
            self.session,
            self.store,
            self.entries,
            warn=lambda text: self._tell(Note(text, Event.WARNING)),
            on_save=lambda step: self.callbacks.on_save(step),
        )

    # ---- progress

    @property
    def step(self) -> int:
        """The number of steps that the state has taken."""
        return self.session.step_count

    @property
    def best(self) -> Best | None:
        """The lowest held-out loss so far, or None before the first evaluation."""
        return best_of(self.entries)

    @property
    def end(self) -> End | None:
        """Why the run is over according to its log, or None if it is not."""
        if self._is_evaluation_missing():
            return None
        if self.step >= self.options.steps:
            return End.DONE
        patience, best = self.options.patience, self.best
        if patience is not None and best is not None and best.evaluations_since >= patience:
            return End.EARLY
        return None

    def _is_evaluation_due(self) -> bool:
        every = self.options.evaluation_interval
        is_last = self.step == self.options.steps
        return bool(self.validation) and (self.step % every == 0 or is_last)

    def _tell(self, note: Note) -> None:
        self.notes.append(note)
        self.callbacks.on_note(note)

    # ---- training

    def run(self) -> End:
        """Step until the run's end, a signal or a callback's StopTraining, then save.

        A run that is over is left as it is. An error of a callback or of a refused batch is raised
        after saving. RunError if the last save fails. BundleChangedError and RunTakenError are
        raised without saving.
        """
        self.interruption.tell = lambda: self._tell(
            Note(stopping(self._step_seconds), Event.WARNING)
        )
        if (over := self.end) is not None:
            self._tell_all(self._state().over_notes(over))
            return over
        with self.interruption:
            try:
                reason = self._reason()
                self._files.save()
            except BundleChangedError as error:
                raise BundleChangedError(
                    f"{error}; the steps after step {self._files.saved} were left out", error.hint
                ) from None
        self._tell_all(self._state().end_notes(reason))
        return reason

    def _state(self) -> State:
        reports, digest = (self.dataset.report(), self.held_out.report), self.session.digest
        return State(self.store.path, self.options.steps, self.step, digest, self.best, *reports)

    def _tell_all(self, notes: Iterable[Note]) -> None:
        """Tell what comes after the last step, where nothing is left to be stopped."""
        for note in notes:
            with suppress(StopTraining):
                self._tell(note)

    def _reason(self) -> End:
        """Step, and say why that ended."""
        try:
            return self._steps()
        except StopTraining:
            return End.CALLBACK
        except _Interrupted:
            return End.SIGNAL
        except BaseException:
            if self._is_whole:  # the store refuses to save what is not certain
                self._files.attempt(self._files.save)
            raise

    def _steps(self) -> End:
        count = self.options.sequences_per_step(self.session.batch)
        batches = self.dataset.batches(count, self.options.seed, self.step)
        forecast = plan_run(self.options, count, self.step, self.dataset.sequences, self.held_out)
        if self._is_evaluation_missing():
            forecast = replace(forecast, evaluations=forecast.evaluations + 1)
        first = FirstSteps(forecast, Movement(self.session, self.options.rates))
        for note in (*self._state().opening_notes(), *forecast.notes()):
            self._tell(note)
        self._catch_up()
        while True:
            if (end := self.end) is not None:
                return end
            if self._pacing.stops_before_step():
                return End.SIGNAL
            self._step(batches, first)

    def _step(self, batches: Iterator[list[TokenSequence]], first: FirstSteps) -> None:
        entry = self._take_step(next(batches))
        self.entries.append(entry)
        is_due = self._is_evaluation_due()
        if is_due:
            with suppress(_Interrupted):  # `_catch_up` evaluates when the run goes on
                self._evaluate(entry)
        self._files.unlogged.append(entry)
        self._files.attempt(self._files.write_log)
        if is_due or self.step % self.options.save_every == 0:
            self._files.attempt(self._files.save)
        self.callbacks.on_step(entry)
        if "validation_loss" in entry:
            self.callbacks.on_evaluate(entry)
        seconds = self._pacing.stretched(self._step_seconds or 0.0), self._evaluation_seconds
        for note in first.notes(*seconds, entry["peak_rss_bytes"], is_last=self.end is not None):
            self._tell(note)

    def _take_step(self, sequences: list[TokenSequence]) -> Entry:
        options, start = self.options, time.monotonic()
        rate = options.rates.at(self.step + 1)
        self._is_whole = False
        try:
            result = self.session.step(sequences, rate, options.decay, options.largest_norm)
        except GsqcError as error:
            # A refused batch has not changed the state.
            self._is_whole = not isinstance(error, BundleChangedError)
            raise
        self._is_whole = True
        self._step_seconds = seconds = time.monotonic() - start
        return {
            "step": result.step,
            "loss": result.loss,
            "tokens": result.tokens,
            "learning_rate": float(rate),
            "tokens_per_second": result.tokens / seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "digest": result.digest,
        } | result.logged()

    # ---- evaluation

    def _is_evaluation_missing(self) -> bool:
        """Whether the evaluation that is due after the present step was cut short.

        Before the first step it is missing if there is held-out data and no line of the log.
        """
        if self.step == 0:
            return bool(self.validation) and not self.entries
        last = self.entries[-1] if self.entries else {}
        return (
            self._is_evaluation_due()
            and last.get("step") == self.step
            and "validation_loss" not in last
        )

    def _catch_up(self) -> None:
        if not self._is_evaluation_missing():
            return
        entry = self.entries[-1] if self.entries else {"step": 0}
        self._evaluate(entry)
        self.entries[len(self.entries) - bool(self.entries) :] = [entry]
        self._files.is_stale = True
        self._files.attempt(self._files.write_log)
        self.callbacks.on_evaluate(entry)

    def _evaluate(self, entry: Entry) -> None:
        """Add the held-out loss to a line of the log, and keep the state if it is the best.

        The best state is written before the log, so that the log never names one that is missing.
        """

        def watch(done: int) -> None:
            if self.interruption.number is not None:
                raise _Interrupted
            self.callbacks.on_evaluating(done, len(self.validation))

        start = time.monotonic()
        result = self.session.evaluate(self.validation, watch)
        self._evaluation_seconds = time.monotonic() - start
        known = self.best
        entry |= result.logged()
        entry["best"] = known is None or result.loss < known.loss
        if entry["best"]:
            self._files.keep_best()
