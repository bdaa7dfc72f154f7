# SPDX-License-Identifier: Apache-2.0
"""gsqc train: fine-tune a bundle's adapter on a file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsqc.cli.config import ConfigOption, ResumeOption, recorded, resolved
from gsqc.cli.data_options import DataOption, MaskPromptOption, PackingOption, ValidationOption
from gsqc.cli.display import show
from gsqc.cli.output import JsonOption, Output
from gsqc.cli.train_options import (
    AccumulateOption,
    BatchOption,
    BundleArgument,
    ClipOption,
    DecayOption,
    LeastRateOption,
    RateOption,
    ScheduleOption,
    SeedOption,
    StepsOption,
    WarmupOption,
)
from gsqc.data import DataOptions
from gsqc.training.callbacks import End
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions
from gsqc.training.trainer import Trainer


def train(
    context: typer.Context,
    bundle: BundleArgument,
    data: DataOption,
    steps: StepsOption,
    lr: RateOption,
    run: Annotated[
        Path, typer.Option(help="Directory of the run: state, settings, log (docs/runs.md).")
    ],
    validation: ValidationOption = None,
    mask_prompt: MaskPromptOption = True,
    packing: PackingOption = False,
    schedule: ScheduleOption = "constant",
    warmup: WarmupOption = 0,
    min_lr: LeastRateOption = "0",
    weight_decay: DecayOption = "0",
    clip: ClipOption = None,
    batch: BatchOption = None,
    accumulate: AccumulateOption = 1,
    seed: SeedOption = 0,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves.")] = 20,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations; else 10 a run.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many evaluations without a lower loss."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="The result does not depend on it.")
    ] = None,
    config: ConfigOption = None,
    resume: ResumeOption = None,
    json: JsonOption = False,
) -> int:
    """Fine-tune BUNDLE's adapter; goes on with what the run directory holds. Ctrl-C saves and
    stops.
    """
    out = Output(json)
    options = TrainOptions(
        steps=steps,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        min_lr=min_lr,
        weight_decay=weight_decay,
        clip=clip,
        batch=batch,
        accumulate=accumulate,
        seed=seed,
        save_every=save_every,
        eval_every=eval_every,
        patience=patience,
    )
    names = {"bundle": "bundle", "data": "data_sha256", "validation": "validation_sha256"}
    made_with = {
        name: value for option, name in names.items() for value in recorded(context, option, name)
    }
    settings = {**resolved(context), **vars(options)}  # numbers in their one spelling
    reading = DataOptions(tuple(data), mask_prompt, packing, validation)
    with open_run(
        bundle, reading, run, options, threads=threads, settings=settings, made_with=made_with
    ) as trainer:
        return _train(trainer, out)


def _train(trainer: Trainer, out: Output) -> int:
    path, steps = trainer.store.path, trainer.options.steps
    if trainer.report is not None:
        out.say(trainer.report)
    if (over := trainer.end) is not None:
        early = f", {over}: {_best(trainer)}" if over is End.EARLY else ""
        out.say(f"{path} has {trainer.step} of {steps} steps{early}: nothing to do")
        return 0
    end = show(trainer, out)
    stopped = "" if end is End.DONE else f"{end} after step {trainer.step} of {steps}; "
    saved = (
        f"state saved in {path}, digest {trainer.session.digest()[:16]}"
        if trainer.step
        else "nothing to save yet"
    )
    out.say(stopped + saved)
    if trainer.best is not None:
        out.say(f"{_best(trainer)}; use it with --run {path} --best")
    if end in (End.SIGNAL, End.CALLBACK):
        out.say(f"go on with: gsqc train --resume {shlex.quote(str(path))}")
    return trainer.interruption.exit_code


def _best(trainer: Trainer) -> str:
    assert trainer.best is not None
    return f"lowest held-out loss {trainer.best.loss:.4f} at step {trainer.best.step}"
