# SPDX-License-Identifier: Apache-2.0
"""The options of a training run: what decides its bits, and how often it saves and evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from gsqc.errors import OptionError
from gsqc.numerics.ops.accumulate import MAXIMUM_SEQUENCES
from gsqc.training.learning_rate import LearningRate, parse_fraction

MAXIMUM_CLIP = 10**6


def plain_number(value: str | float) -> str:
    """A number as a text of one spelling, so that 1e-3 and 0.001 are one setting; what is no number
    stays as it is.
    """
    try:
        number = Decimal(str(value)).normalize()
        return (
            format(number, "f")
            if number.is_finite() and -9 <= number.adjusted() <= 9
            else str(number).lower()
        )
    except InvalidOperation:
        return str(value)


@dataclass(frozen=True)
class TrainOptions:
    """What a run is asked for. Numbers that reach the bits are decimal texts (a float is taken by
    its shortest text).

    steps         in all: a run that has 3 of 6 does 3 more
    lr            peak learning rate
    schedule      of SCHEDULES, after `warmup` steps of linear warm-up; towards `min_lr` at the end
    weight_decay  decoupled, as in AdamW
    clip          largest norm of the mean gradient; None does not clip
    batch         sequences of a micro-batch; None takes the bundle's
    accumulate    micro-batches of a step: k times n is k·n times 1, bit for bit
    seed          of the data's order
    save_every    steps between saves
    eval_every    steps between evaluations on held-out data; None is a tenth of the run
    patience      evaluations without a lower held-out loss before the run stops; None never does

    Raises OptionError for values out of range.
    """

    steps: int
    lr: str | float
    schedule: str = "constant"
    warmup: int = 0
    min_lr: str | float = "0"
    weight_decay: str | float = "0"
    clip: str | float | None = None
    batch: int | None = None
    accumulate: int = 1
    seed: int = 0
    save_every: int = 20
    eval_every: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        least = {"steps": 1, "warmup": 0, "batch": 1, "accumulate": 1, "seed": 0}
        least |= {"save_every": 1, "eval_every": 1, "patience": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not low <= value < 2**31):
                raise OptionError(
                    f"--{name.replace('_', '-')} is {value!r}", f"give a whole number from {low} on"
                )
        for name in ("lr", "min_lr", "weight_decay", "clip"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, plain_number(getattr(self, name)))
        self.rates, self.decay, self.largest_norm  # noqa: B018  each raises OptionError for a value out of range

    @property
    def rates(self) -> LearningRate:
        """The learning rate of each step."""
        rate, least = (
            parse_fraction(str(v), n, 1) for v, n in ((self.lr, "--lr"), (self.min_lr, "--min-lr"))
        )
        return LearningRate(rate, self.steps, self.warmup, self.schedule, least)

    @property
    def decay(self) -> Fraction:
        return parse_fraction(str(self.weight_decay), "--weight-decay", 1)

    @property
    def largest_norm(self) -> Fraction | None:
        """What --clip asks for."""
        if self.clip is None:
            return None
        norm = parse_fraction(str(self.clip), "--clip", MAXIMUM_CLIP)
        if not norm:
            raise OptionError(
                "--clip 0 leaves nothing of the gradient",
                "give a norm above 0, or leave --clip out",
            )
        return norm

    def sequences_per_step(self, bundle_batch: int) -> int:
        """Batch times accumulate; OptionError if a step cannot sum that many."""
        batch = self.batch or bundle_batch
        count = batch * self.accumulate
        if count > MAXIMUM_SEQUENCES:
            raise OptionError(
                f"--batch {batch} times --accumulate {self.accumulate} is {count} sequences a step",
                f"a step sums at most {MAXIMUM_SEQUENCES}",
            )
        return count

    def settings(self, bundle_batch: int) -> dict[str, Any]:
        """What decides the bits, as config.json holds it."""
        return {
            "steps": self.steps,
            "lr": self.lr,
            "schedule": self.schedule,
            "warmup": self.warmup,
            "min_lr": self.min_lr,
            "weight_decay": self.weight_decay,
            "clip": self.clip,
            "sequences_per_step": self.sequences_per_step(bundle_batch),
            "seed": self.seed,
        }
