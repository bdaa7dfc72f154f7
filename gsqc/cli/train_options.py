# SPDX-License-Identifier: Apache-2.0
"""The options that train and tokens share: what decides a run's bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")]
StepsOption = Annotated[
    int, typer.Option(min=1, help="Total steps: a run that has 3 of 6 does 3 more.")
]
RateOption = Annotated[str, typer.Option("--lr", help="Peak learning rate.")]
ScheduleOption = Annotated[str, typer.Option(help="After the warm-up: constant, linear or cosine.")]
WarmupOption = Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")]
LeastRateOption = Annotated[str, typer.Option("--min-lr", help="Where linear and cosine end.")]
DecayOption = Annotated[str, typer.Option(help="Decoupled, as in AdamW.")]
ClipOption = Annotated[
    str | None, typer.Option(help="Largest norm of a step's gradient; 1 is usual.")
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Sequences of a micro-batch; else the bundle's.")
]
AccumulateOption = Annotated[
    int, typer.Option(min=1, help="Micro-batches of a step; 4 of 2 are 8 of 1, bit for bit.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the data's order.")]
