# SPDX-License-Identifier: Apache-2.0
"""gsqc train: fine-tunes a bundle's adapter on files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsqc.cli.config import (
    ConfigOption,
    ResumeOption,
    recorded,
    require_found,
    resolved,
    settings_file_of,
)
from gsqc.cli.display import show
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption, ThreadsOption
from gsqc.data import DataOptions
from gsqc.option import Option
from gsqc.training.callbacks import End
from gsqc.training.open_run import open_run
from gsqc.training.options import SAVING, TrainOptions
from gsqc.training.trainer import Trainer

RunOption = Annotated[
    Path,
    Option(
        "Directory of the run: its state, settings and log (docs/runs.md).",
        group=SAVING,
        example="runs/first",
    ),
]
MADE_WITH = {"bundle": "bundle", "data": "data_sha256", "validation": "validation_sha256"}
"""For some options, the name under which a settings file records what its run was made with."""


def train(
    context: typer.Context,
    bundle: BundleArgument,
    reading: DataOptions,
    training: TrainOptions,
    run: RunOption,
    threads: ThreadsOption = None,
    config: ConfigOption = None,
    resume: ResumeOption = None,
    json: JsonOption = False,
) -> int:
    """Fine-tune BUNDLE's adapter. A run that was stopped goes on from its last save.

    Ctrl-C finishes the step, saves and stops. A second one stops at once. Options marked (needed)
    can also come from --config or --resume.
    """
    out = Output(json)
    require_found(context)
    made_with = {
        name: value
        for option, name in MADE_WITH.items()
        for value in recorded(context, option, name)
    }
    # TrainOptions spells each number in one way, so its values replace those given.
    settings = {**resolved(context), **vars(training)}
    with open_run(
        bundle,
        reading,
        run,
        training,
        threads=threads,
        settings=settings,
        made_with=made_with,
        bundle_named_by=settings_file_of(context, "bundle"),
    ) as trainer:
        trainer.interruption.ends_process = bool(context.obj)
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
