# SPDX-License-Identifier: Apache-2.0
"""gsqc train: fine-tunes a bundle's adapter on files."""

from __future__ import annotations

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
from gsqc.cli.reading_bar import reading_bar
from gsqc.cli.shared import BundleArgument, JsonOption, ThreadsOption
from gsqc.data import DataOptions
from gsqc.data.content import STANDARD_INPUT
from gsqc.errors import OptionError
from gsqc.option import Option
from gsqc.training.open_run import open_run
from gsqc.training.options import SAVING, TrainOptions

RunOption = Annotated[
    Path,
    Option(
        "Directory of the run: its state, settings and log (docs/runs.md).",
        group=SAVING,
        example="runs/first",
    ),
]
MADE_WITH = {
    "bundle": "bundle",
    "data": "data_sha256",
    "validation": "validation_sha256",
    "images": "images_sha256",
}
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
    _require_new_input(context, reading)
    require_found(context)
    # TrainOptions spells each number in one way, so its values replace those given.
    settings = {**resolved(context), **vars(training)}
    with (
        reading_bar(out) as bar,
        open_run(
            bundle,
            reading,
            run,
            training,
            threads=threads,
            settings=settings,
            made_with=_made_with(context),
            bundle_named_by=settings_file_of(context, "bundle"),
            on_progress=bar.update,
        ) as trainer,
    ):
        bar.stop()
        trainer.interruption.ends_process = bool(context.obj)
        show(trainer, out)
        return trainer.interruption.exit_code


def _made_with(context: typer.Context) -> dict[str, object]:
    """What a settings file records of the run that wrote it, of the options that it gives."""
    found = [(name, recorded(context, option, name)) for option, name in MADE_WITH.items()]
    return {name: value for name, values in found for value in values}


def _require_new_input(context: typer.Context, reading: DataOptions) -> None:
    """OptionError if only a settings file says that standard input is read."""
    if STANDARD_INPUT in map(str, reading.data) and settings_file_of(context, "data"):
        raise OptionError(
            "the run read its data from standard input, which cannot be read again",
            "pipe the same data into it: gsqc train --resume RUN --data -",
        )
