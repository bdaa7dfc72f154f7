# SPDX-License-Identifier: Apache-2.0
"""gsqc tokens: writes the token file that gsqc-step trains on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.output import Output
from gsqc.cli.reading_bar import reading_bar
from gsqc.cli.shared import BundleArgument, JsonOption
from gsqc.data import DataOptions, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.limits import MAXIMUM_LISTED_STEPS
from gsqc.option import Option
from gsqc.training.callbacks import Note
from gsqc.training.epochs import count_steps
from gsqc.training.forecast import plan_run
from gsqc.training.held_out import HeldOut
from gsqc.training.open_run import run_config
from gsqc.training.options import TrainOptions
from gsqc.training.run_settings import file_paths
from gsqc.training.token_file import write_token_file
from gsqc.values import require_whole

TEXT_ONLY = OptionsOf(DataOptions, has=lambda option: option.field != "images")
"""gsqc-step takes no images."""
BITS_ONLY = OptionsOf(TrainOptions, has=lambda o: o.decides_bits)
"""The options that decide bits. gsqc-step has its own options for all else."""


def tokens(
    bundle: BundleArgument,
    reading: Annotated[DataOptions, TEXT_ONLY],
    training: Annotated[TrainOptions, BITS_ONLY],
    output: Annotated[
        Path, Option("The file to write, NAME.safetensors.", flag="--output", short="-o")
    ],
    json: JsonOption = False,
) -> None:
    """Write the data that gsqc train would feed to BUNDLE with these options, for gsqc-step."""
    out = Output(json)
    opened = Bundle.open(bundle)
    length, batch = opened.manifest.sequence_length, opened.manifest.batch
    count = training.sequences_per_step(batch)
    with reading_bar(out) as bar:
        dataset, _ = load_split(reading, Tokenizer(opened), length, on_progress=bar.update)
    if (report := dataset.report()) is not None:
        out.tell(Note(report).record)
    counted = count_steps(training, len(dataset.sequences), count)
    steps = require_whole("--steps", counted.steps, 1, MAXIMUM_LISTED_STEPS)
    for note in plan_run(counted, count, 0, dataset.sequences, HeldOut()).notes():
        out.tell(note.record)
    order = list(islice(dataset.order(count, training.seed), steps))
    config = run_config(counted, opened, reading)
    config |= dataset.form(reading.prompt_end).setting() | file_paths(bundle, reading, None)
    if training.epochs is not None:
        config["epochs"] = training.epochs
    write_token_file(output, opened, dataset.sequences, order, counted, config)
    out.say(f"wrote {output}: {len(dataset.sequences)} sequences, {steps} steps of {count}")
    out.emit({"tokens": str(output), "sequences": len(dataset.sequences), "steps": steps})
