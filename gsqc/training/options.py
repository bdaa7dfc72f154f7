# SPDX-License-Identifier: Apache-2.0
"""TrainOptions, and which settings a run must keep when it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gsqc.data.options import DataOptions
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.decimals import parse_fraction, plain_number
from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_COUNT, MAXIMUM_SEED, MAXIMUM_SEQUENCES, MAXIMUM_STEPS
from gsqc.option import Option, check_options, option, options_of
from gsqc.training.learning_rate import SCHEDULES, LearningRate

MAXIMUM_CLIP = 10**6
EVALUATIONS = 10
"""How often a run is evaluated if --eval-every is not given."""
LEARNING_RATE = "0.001"
"""A rate that suits LoRA with AdamW (docs/training.md)."""

STEPS, RATE, SAVING = "Steps and batches", "Learning rate", "Saving and evaluation"
PER_STEP = "sequences_per_step"
"""The setting that --batch and --accumulate make together."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training run.

    Numbers that decide the bits are decimal texts. A float stands for its shortest text. Raises
    OptionError for values out of range.
    """

    steps: int = option(
        help="Steps of the run in all. A run that has 3 of 6 makes 3 more.",
        group=STEPS,
        minimum=1,
        maximum=MAXIMUM_STEPS,
        example=200,
        decides_bits=True,
        may_change=True,
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
        check_options(self)
        for declared in options_of(TrainOptions):
            value = getattr(self, declared.field)
            if declared.kind is float and value is not None:
                object.__setattr__(self, declared.field, plain_number(value))
        self.rates, self.largest_norm  # noqa: B018  each raises OptionError for what does not fit

    @property
    def rates(self) -> LearningRate:
        """The learning rate of each step."""
        peak, least = self._exact("lr"), self._exact("min_lr")
        return LearningRate(peak, self.steps, self.warmup, self.schedule, least)

    @property
    def evaluation_interval(self) -> int:
        """The steps between evaluations on held-out data."""
        return self.eval_every or max(self.steps // EVALUATIONS, 1)

    @property
    def decay(self) -> Fraction:
        """The weight decay as an exact fraction."""
        return self._exact("weight_decay")

    @property
    def largest_norm(self) -> Fraction | None:
        """The largest norm of the mean gradient as an exact fraction, or None."""
        if self.clip is None:
            return None
        norm = self._exact("clip")
        if not norm:
            raise OptionError(
                "--clip 0 leaves nothing of the gradient",
                "give a norm above 0, or leave --clip out",
            )
        return norm

    def _exact(self, field: str) -> Fraction:
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
            name: self.sequences_per_step(bundle_batch)
            if name == PER_STEP
            else getattr(self, declared.field)
            for declared in options_of(TrainOptions)
            for name in _recorded(declared)
        }


def _recorded(declared: Option) -> tuple[str, ...]:
    """The settings of config.json that an option decides."""
    return (declared.recorded or (declared.field,)) if declared.decides_bits else ()


def _settings(may_change: bool) -> tuple[str, ...]:
    declared = (*options_of(DataOptions), *options_of(TrainOptions))
    chosen = (o for o in declared if o.may_change is may_change)
    return tuple(dict.fromkeys(name for o in chosen for name in _recorded(o)))


FIXED_IF_GIVEN = ("validation_sha256",)
"""The setting that counts only if the run began with a held-out file and goes on with one."""
FIXED_SETTINGS = tuple(s for s in _settings(may_change=False) if s not in FIXED_IF_GIVEN)
"""The settings of config.json that must not change when a run goes on.

gsqc-step gets these lists through gsqc/runner/format.h.
"""
FIXED_BY_SCHEDULE = _settings(may_change=True)
"""More settings that must not change if the learning rate is not constant: it depends on them."""
ADDED_SETTINGS = {"prompt_end": DEFAULT_END}
"""The fixed settings that runs and token files of older versions lack, and what they were then."""
