# SPDX-License-Identifier: Apache-2.0
"""TrainOptions: the options of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gsqc.decimals import parse_fraction, plain_number
from gsqc.errors import OptionError
from gsqc.limits import (
    MAXIMUM_CLIP,
    MAXIMUM_COUNT,
    MAXIMUM_EPOCHS,
    MAXIMUM_SEED,
    MAXIMUM_SEQUENCES,
    MAXIMUM_STEPS,
)
from gsqc.option import Option, check_options, option, options_of
from gsqc.training.learning_rate import SCHEDULES, LearningRate
from gsqc.training.pacing import PaceOptions

EVALUATIONS = 10
"""How often a run is evaluated if --eval-every is not given."""
EVALUATED = 100
"""How many held-out sequences an evaluation takes if --eval-limit is not given."""
LEARNING_RATE = "0.001"
"""A rate that suits LoRA with AdamW (docs/training.md)."""

STEPS, RATE, SAVING = "Steps and batches", "Learning rate", "Saving and evaluation"
PER_STEP = "sequences_per_step"
"""The setting that --batch and --accumulate make together."""


def recorded_names(declared: Option) -> tuple[str, ...]:
    """The settings of config.json that an option decides."""
    return (declared.recorded or (declared.field,)) if declared.decides_bits else ()


@dataclass(frozen=True)
class TrainOptions(PaceOptions):
    """The options of a training run.

    Numbers that decide the bits are decimal texts. A float stands for its shortest text. With
    `epochs`, `steps` is None until `count_steps` knows it.

    Raises OptionError for values out of range.
    """

    steps: int = option(
        None,
        help="Steps of the run in all. A run that has 3 of 6 makes 3 more. Give this or --epochs.",
        group=STEPS,
        minimum=1,
        maximum=MAXIMUM_STEPS,
        example=200,
        decides_bits=True,
        may_change=True,
        instead_of="epochs",
        is_written=True,
    )
    lr: str | float = option(
        LEARNING_RATE,
        help="Peak learning rate.",
        group=RATE,
        maximum=1,
        decides_bits=True,
    )
    schedule: str = option(
        "constant",
        help="Course of the learning rate after the warm-up.",
        group=RATE,
        choices=SCHEDULES,
        decides_bits=True,
    )
    warmup: int = option(
        0,
        help="Steps over which the learning rate rises to its peak.",
        group=RATE,
        maximum=MAXIMUM_STEPS,
        decides_bits=True,
    )
    min_lr: str | float = option(
        "0",
        help="Learning rate at the end of a linear or cosine schedule.",
        group=RATE,
        maximum=1,
        decides_bits=True,
    )
    weight_decay: str | float = option(
        "0",
        help="Decoupled weight decay, as in AdamW.",
        group=RATE,
        maximum=1,
        decides_bits=True,
    )
    clip: str | float | None = option(
        None,
        help="Largest norm of a step's gradient. 1 is usual. Without it, nothing is clipped.",
        group=RATE,
        maximum=MAXIMUM_CLIP,
        example="1",
        decides_bits=True,
    )
    batch: int | None = option(
        None,
        help="Sequences in a micro-batch. Without it, as many as the bundle was compiled for.",
        group=STEPS,
        minimum=1,
        maximum=MAXIMUM_SEQUENCES,
        example=1,
        decides_bits=True,
        recorded=(PER_STEP,),
    )
    accumulate: int = option(
        1,
        help="Micro-batches in a step. 4 of 2 sequences give the same bits as 8 of 1.",
        group=STEPS,
        minimum=1,
        maximum=MAXIMUM_SEQUENCES,
        decides_bits=True,
        recorded=(PER_STEP,),
    )
    seed: int = option(
        0, help="Seed of the data order.", group=STEPS, maximum=MAXIMUM_SEED, decides_bits=True
    )
    epochs: str | float | None = option(
        None,
        help="Passes over the data, in place of --steps. 0.5 is half of it.",
        group=STEPS,
        maximum=MAXIMUM_EPOCHS,
        example=3,
        decides_bits=True,
        recorded=("steps",),
        may_change=True,
        instead_of="steps",
    )
    save_every: int = option(
        20, help="Steps between saves.", group=SAVING, minimum=1, maximum=MAXIMUM_STEPS
    )
    eval_every: int | None = option(
        None,
        help="Steps between evaluations on held-out data. Without it, a tenth of the run.",
        group=SAVING,
        minimum=1,
        maximum=MAXIMUM_STEPS,
        example=20,
    )
    eval_limit: int = option(
        EVALUATED,
        help="Held-out sequences of an evaluation, drawn once for the run. 0 takes all.",
        group=SAVING,
        maximum=MAXIMUM_COUNT,
    )
    patience: int | None = option(
        None,
        help="Stop after this many evaluations without a lower held-out loss.",
        group=SAVING,
        minimum=1,
        maximum=MAXIMUM_COUNT,
        example=3,
    )
    verify: str = option(
        "changes",
        help="When the bundle's weights are hashed again: at each save (always), or only if the "
        "file system says that they changed.",
        group=SAVING,
        choices=("changes", "always"),
    )

    def __post_init__(self) -> None:
        """Check all values, and spell each number in its one way."""
        check_options(self, self._problems())
        for declared in options_of(TrainOptions):
            value = getattr(self, declared.field)
            if declared.kind is float and value is not None:
                object.__setattr__(self, declared.field, plain_number(value))
        self.largest_norm  # noqa: B018  raises OptionError for a norm of 0
        if self.steps is not None:
            self.rates  # noqa: B018  raises OptionError for what does not fit together

    def _problems(self) -> list[str]:
        """What is wrong with the steps and the epochs together, and with the pace."""
        if (self.steps is None) is (self.epochs is None):
            both = "not both" if self.epochs is not None else "which say how long it is"
            return [f"a run takes --steps or --epochs, {both}", *self.pace_problems()]
        return self.pace_problems()

    @property
    def rates(self) -> LearningRate:
        """The learning rate of each step."""
        peak, least = self.exact("lr"), self.exact("min_lr")
        return LearningRate(peak, self.steps, self.warmup, self.schedule, least)

    @property
    def evaluation_interval(self) -> int:
        """The steps between evaluations on held-out data."""
        return self.eval_every or max(self.steps // EVALUATIONS, 1)

    @property
    def decay(self) -> Fraction:
        """The weight decay as an exact fraction."""
        return self.exact("weight_decay")

    @property
    def largest_norm(self) -> Fraction | None:
        """The largest norm of the mean gradient as an exact fraction, or None."""
        if self.clip is None:
            return None
        norm = self.exact("clip")
        if not norm:
            raise OptionError(
                "--clip 0 leaves nothing of the gradient",
                "give a norm above 0, or leave --clip out",
            )
        return norm

    def exact(self, field: str) -> Fraction:
        """A number that decides the bits as an exact fraction."""
        (declared,) = (o for o in options_of(TrainOptions) if o.field == field)
        assert declared.maximum is not None
        return parse_fraction(str(getattr(self, field)), declared.shown_name, declared.maximum)

    def sequences_per_step(self, bundle_batch: int) -> int:
        """`batch` times `accumulate`. OptionError if a step cannot sum that many."""
        batch = self.batch or bundle_batch
        count = batch * self.accumulate
        if count > MAXIMUM_SEQUENCES:
            raise OptionError(
                f"--batch {batch} times --accumulate {self.accumulate} is {count} sequences a step",
                f"a step sums at most {MAXIMUM_SEQUENCES}",
            )
        return count

    def settings(self, bundle_batch: int) -> dict[str, Any]:
        """The settings that decide the bits, as config.json holds them."""
        return {
            name: self.sequences_per_step(bundle_batch) if name == PER_STEP else getattr(self, name)
            for declared in options_of(TrainOptions)
            for name in recorded_names(declared)
        }
