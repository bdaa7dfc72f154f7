# SPDX-License-Identifier: Apache-2.0
"""gsqc tokens: the token file that gsqc-step trains on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle import Bundle
from gsqc.cli.data_options import DataOption, MaskPromptOption, PackingOption, ValidationOption
from gsqc.cli.output import JsonOption, Output
from gsqc.cli.train import run_config
from gsqc.runtime.data import DataOptions, load_split
from gsqc.runtime.schedule import Schedule, parse_fraction
from gsqc.runtime.token_file import write_token_file
from gsqc.runtime.tokenizer import Tokenizer


def tokens(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote, for any machine.")],
    data: DataOption,
    steps: Annotated[int, typer.Option(min=1, help="Steps that the file is for.")],
    lr: Annotated[str, typer.Option(help="Peak learning rate.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write, NAME.safetensors.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the data's order.")] = 0,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 0,
    schedule: Annotated[str, typer.Option(help="constant or linear (to zero).")] = "constant",
    weight_decay: Annotated[str, typer.Option(help="Decoupled, as in AdamW.")] = "0",
    mask_prompt: MaskPromptOption = True,
    packing: PackingOption = False,
    validation: ValidationOption = None,
    json: JsonOption = False,
) -> None:
    """Write what `gsqc train` with the same options would feed to BUNDLE, for gsqc-step."""
    out = Output(json)
    plan = Schedule(parse_fraction(lr, "--lr", 1), steps, warmup, schedule)
    opened = Bundle.open(bundle, check_machine=False)
    reading = DataOptions(tuple(data), mask_prompt, packing, validation)
    dataset, _ = load_split(reading, Tokenizer(opened), opened.manifest["sequence_length"])
    if (report := dataset.report()) is not None:
        out.say(report)
    settings = {"lr": lr, "warmup": warmup, "schedule": schedule, "weight_decay": weight_decay, "seed": seed}
    order = list(islice(dataset.order(opened.manifest["batch"], seed), steps))
    config = run_config({**settings, "steps": steps}, reading)
    write_token_file(output, opened, dataset.sequences, order, plan, config)
    out.say(f"wrote {output}: {len(dataset.sequences)} sequences, {steps} steps of {opened.manifest['batch']}")
    out.emit({"tokens": str(output), "sequences": len(dataset.sequences), "steps": steps})
