# SPDX-License-Identifier: Apache-2.0
"""Trainer: steps a run to its end, evaluates it, keeps the best state and saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gsqc.data import Dataset, TokenSequence
from gsqc.errors import BundleChangedError, GsqcError, RunError, RunTakenError
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, RunStore
from gsqc.training.callbacks import Callbacks, End, Entry, StopTraining
from gsqc.training.interruption import Interruption, stopping
from gsqc.training.memory import peak_rss_bytes
from gsqc.training.options import TrainOptions
from gsqc.training.progress import Best, best_of


class _Interrupted(Exception):
    """A signal came while held-out data was evaluated."""


@dataclass
class Trainer:
    """An open run: a session, a locked store with its config written, data and options.

    `entries` are the lines of the log so far.
    """

    session: Session
    store: RunStore
    dataset: Dataset
    validation: Sequence[TokenSequence]
    options: TrainOptions
    callbacks: Callbacks = field(default_factory=Callbacks)
    entries: list[Entry] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)
    _saved: int = -1
    _unlogged: list[Entry] = field(default_factory=list)
    _is_log_stale: bool = False
    _is_whole: bool = True
    _best: tuple[dict[str, Any], int] | None = None
    _step_seconds: float | None = None

    # ----------------------------------------------------------------------------
    # progress

    @property
    def step(self) -> int:
        """The number of steps that the state has taken."""
        return self.session.step_count

    @property
    def report(self) -> str | None:
        """A sentence on the data that did not fit, or None if all of it did."""
        return self.dataset.report()

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
        return bool(self.validation) and (self.step % every == 0 or self.step == self.options.steps)

    # ----------------------------------------------------------------------------
    # training

    def run(self) -> End:
        """Step until the run's end, a signal or a callback's StopTraining, then save.

        An error of a callback or of a refused batch is raised after saving. RunError if the last
        save fails. BundleChangedError and RunTakenError are raised without saving.
        """
        self._saved = self.step
        self.interruption.tell = lambda: self.callbacks.on_warning(stopping(self._step_seconds))
        with self.interruption:
            try:
                reason = self._reason()
                self._save()
            except BundleChangedError as error:
                raise BundleChangedError(
                    f"{error}; the steps after step {self._saved} were left out", error.hint
                ) from None
        return reason

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
                self._attempt(self._save)
            raise

    def _steps(self) -> End:
        count = self.options.sequences_per_step(self.session.batch)
        batches = self.dataset.batches(count, self.options.seed, self.step)
        self._catch_up()
        while True:
            if (end := self.end) is not None:
                return end
            if self.interruption.number is not None:
                return End.SIGNAL
            self._step(batches)

    def _step(self, batches: Iterator[list[TokenSequence]]) -> None:
        entry = self._take_step(next(batches))
        self.entries.append(entry)
        is_due = self._is_evaluation_due()
        if is_due:
            with suppress(_Interrupted):  # `_catch_up` evaluates when the run goes on
                self._evaluate(entry)
        self._unlogged.append(entry)
        self._attempt(self._write_log)
        if is_due or self.step % self.options.save_every == 0:
            self._attempt(self._save)
        self.callbacks.on_step(entry)
        if "validation_loss" in entry:
            self.callbacks.on_evaluate(entry)

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
        } | ({} if result.gradient_norm is None else {"gradient_norm": result.gradient_norm})

    # ----------------------------------------------------------------------------
    # evaluation

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
        self._is_log_stale = True
        self._attempt(self._write_log)
        self.callbacks.on_evaluate(entry)

    def _evaluate(self, entry: Entry) -> None:
        """Add the held-out loss to a line of the log, and keep the state if it is the best.

        The best state is written before the log, so that the log never names one that is missing.
        """

        def watch(done: int) -> None:
            if self.interruption.number is not None:
                raise _Interrupted
            self.callbacks.on_evaluating(done, len(self.validation))

        result = self.session.evaluate(self.validation, watch)
        known = self.best
        entry["validation_loss"], entry["validation_tokens"] = result.loss, result.tokens
        entry["best"] = known is None or result.loss < known.loss
        if entry["best"]:
            self._best = (self.session.state(), self.step)
            if not self._attempt(self._save_best):
                # The next step changes the state, so a copy waits for the next save.
                self._best = (
                    {name: tensor.copy() for name, tensor in self.session.state().items()},
                    self.step,
                )

    # ----------------------------------------------------------------------------
    # saving

    def _attempt(self, write: Callable[[], None]) -> bool:
        """Write in the middle of a run. If the disk is full, the run warns and keeps training."""
        try:
            write()
        except RunError as error:
            if isinstance(error, RunTakenError):
                raise
            self.callbacks.on_warning(f"{error}; the run goes on and tries again")
            return False
        return True

    def _write_log(self) -> None:
        """Write the lines that the log lacks, or the whole log if a line of it was changed."""
        if self._is_log_stale:
            self.store.write_log(self.entries)
        elif self._unlogged:
            self.store.append_log(self._unlogged)
        self._is_log_stale = False
        self._unlogged.clear()

    def _save_best(self) -> None:
        if self._best is not None:
            self.store.save_state(*self._best, BEST)
            self._best = None

    def _save(self) -> None:
        self._save_best()
        self._write_log()
        if self.step > self._saved:
            self.session.save()
            self._saved = self.step
            self.callbacks.on_save(self.step)
