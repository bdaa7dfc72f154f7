# SPDX-License-Identifier: Apache-2.0
"""gsqc tokens: the token file that gsqc-step trains on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle.bundle import Bundle
from gsqc.cli.data_options import DataOption, MaskPromptOption, PackingOption, ValidationOption
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
from gsqc.data import DataOptions, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.training.open_run import run_config
from gsqc.training.options import TrainOptions
from gsqc.training.token_file import write_token_file


def tokens(
    bundle: BundleArgument,
    data: DataOption,
    steps: StepsOption,
    lr: RateOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file to write, NAME.safetensors.")
    ],
    schedule: ScheduleOption = "constant",
    warmup: WarmupOption = 0,
    min_lr: LeastRateOption = "0",
    weight_decay: DecayOption = "0",
    clip: ClipOption = None,
    batch: BatchOption = None,
    accumulate: AccumulateOption = 1,
    seed: SeedOption = 0,
    validation: ValidationOption = None,
    mask_prompt: MaskPromptOption = True,
    packing: PackingOption = False,
    json: JsonOption = False,
) -> None:
    """Write what `gsqc train` with the same options would feed to BUNDLE, for gsqc-step."""
    out = Output(json)
    options = TrainOptions(
        steps, lr, schedule, warmup, min_lr, weight_decay, clip, batch, accumulate, seed
    )
    opened = Bundle.open(bundle)
    count = options.sequences_per_step(opened.manifest.batch)
    reading = DataOptions(tuple(data), mask_prompt, packing, validation)
    dataset, _ = load_split(reading, Tokenizer(opened), opened.manifest.sequence_length)
    if (report := dataset.report()) is not None:
        out.say(report)
    order = list(islice(dataset.order(count, seed), steps))
    write_token_file(
        output, opened, dataset.sequences, order, options, run_config(options, opened, reading)
    )
    out.say(f"wrote {output}: {len(dataset.sequences)} sequences, {steps} steps of {count}")
    out.emit({"tokens": str(output), "sequences": len(dataset.sequences), "steps": steps})
