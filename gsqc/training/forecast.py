# SPDX-License-Identifier: Apache-2.0
"""Forecast: what is left of a run, in counts before its first step and in time after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gsqc.data import TokenSequence
from gsqc.training.callbacks import Event, Note
from gsqc.training.held_out import HeldOut
from gsqc.training.options import TrainOptions

EVALUATION_COST = 0.25
"""The time of a held-out sequence, as a share of one that is trained on. A step computes the
forward pass, computes it again block by block, and its backward pass takes about two.
"""
SAMPLED = 1000
"""At most so many sequences give the mean number of tokens: padding each takes time."""


def mean_tokens(sequences: Sequence[TokenSequence]) -> float:
    """Tokens with a loss in a sequence, by up to SAMPLED sequences at equal distances."""
    chosen = range(0, len(sequences), -(-len(sequences) // SAMPLED))
    return sum(sequences[k].weighted_tokens for k in chosen) / len(chosen)


def long_duration(seconds: float) -> str:
    """Seconds in words for people: 12 s, 4 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Forecast:
    """What is left of a run.

    steps        that will be taken, of `per_step` sequences each
    sequences    in the data, of which each has `tokens` with a loss in the mean
    evaluations  that will be made, of `evaluated` sequences of the `held_out` ones
    """

    steps: int
    per_step: int
    sequences: int
    tokens: float
    evaluations: int
    evaluated: int
    held_out: int

    @property
    def epochs(self) -> float:
        """How often the steps pass over the data."""
        return self.steps * self.per_step / self.sequences

    def evaluation_share(self, step: float, evaluation: float) -> float:
        """The share of evaluations in the time, where a step and an evaluation take so long."""
        spent = self.evaluations * evaluation
        total = spent + self.steps * step
        return spent / total if total else 0.0

    def notes(self) -> Iterator[Note]:
        """The counts, before the first step. Nothing if no step is left."""
        if self.steps:
            yield self._counts()

    def _counts(self) -> Note:
        step, evaluation = self.per_step, self.evaluated * EVALUATION_COST
        share, used = self.evaluation_share(step, evaluation), self.steps * self.per_step
        each = "1 sequence" if self.per_step == 1 else f"{self.per_step} sequences"
        text = (
            f"{self.steps:,} steps of {each}: {self.epochs:.3g} epochs of {self.sequences:,} "
            f"sequences, about {used * self.tokens:,.0f} tokens with a loss"
        )
        if self.evaluations:
            text += (
                f"; {self.evaluations} evaluations of {self.evaluated:,} of {self.held_out:,} "
                f"held-out sequences, about {share:.0%} of the time"
            )
        if share > 0.5:
            text += " (a lower --eval-limit or a higher --eval-every takes less)"
        values = {
            "steps": self.steps,
            "sequences_per_step": self.per_step,
            "sequences": self.sequences,
            "epochs": round(self.epochs, 6),
            "tokens": round(used * self.tokens),
            "evaluations": self.evaluations,
            "evaluated_sequences": self.evaluated,
            "held_out_sequences": self.held_out,
            "evaluation_share": round(share, 4),
        }
        return Note(text, Event.FORECAST, values)

    def timed(self, step: float, evaluation: float | None, peak_bytes: int) -> Note:
        """The time, when a step and perhaps an evaluation were measured, in seconds."""
        if evaluation is None:
            evaluation = step * EVALUATION_COST * self.evaluated / self.per_step
        seconds = self.steps * step + self.evaluations * evaluation
        share = self.evaluation_share(step, evaluation)
        text = f"a step takes {step:.2g} s"
        if self.evaluations:
            text += f" and an evaluation {long_duration(evaluation)}"
        text += f": about {long_duration(seconds)} in all"
        if self.evaluations:
            text += f", {share:.0%} of it evaluations"
        values = {
            "step_seconds": step,
            "evaluation_seconds": evaluation if self.evaluations else None,
            "seconds": seconds,
            "evaluation_share": round(share, 4),
            "peak_rss_bytes": peak_bytes,
        }
        return Note(f"{text}; {peak_bytes / 2**20:.0f} MiB of memory", Event.FORECAST, values)


def plan_run(
    options: TrainOptions,
    per_step: int,
    step: int,
    sequences: Sequence[TokenSequence],
    held_out: HeldOut,
) -> Forecast:
    """The forecast of a run that has taken `step` steps, of `per_step` sequences each."""
    steps, every = options.steps, options.evaluation_interval
    evaluations = 0
    if held_out.count():
        evaluations = steps // every - step // every + (steps % every > 0)
    return Forecast(
        steps - step,
        per_step,
        len(sequences),
        mean_tokens(sequences),
        evaluations,
        held_out.count(),
        len(held_out.sequences),
    )
