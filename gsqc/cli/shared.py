# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, beside those of gsqc/data and gsqc/training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gsqc.cli.command import OptionsOf
from gsqc.data import DataOptions
from gsqc.limits import MAXIMUM_THREADS
from gsqc.option import Option

MACHINE = "This machine"
PRINTING = "Settings and printing"

JsonOption = Annotated[bool, Option("Print JSON lines only.", group=PRINTING)]
BundleArgument = Annotated[
    Path,
    Option(
        "Bundle that gsqc compile wrote.",
        is_argument=True,
        example="model.gsqc",
        decides_bits=True,
    ),
]
ModelArgument = Annotated[
    str,
    Option(
        "Known name (smollm2-135m), model directory, or .gguf file.",
        is_argument=True,
        example="smollm2-135m",
        decides_bits=True,
    ),
]
RunStateOption = Annotated[
    Path | None, Option("Directory of a run. Without it, the adapter is untrained.")
]
BestOption = Annotated[bool, Option("Take the run's state with the lowest held-out loss.")]
ThreadsOption = Annotated[
    int | None,
    Option(
        "Threads to compute with. The bits do not depend on their number.",
        group=MACHINE,
        minimum=1,
        maximum=MAXIMUM_THREADS,
        example=2,
    ),
]
DATA_ALONE = OptionsOf(DataOptions, has=lambda o: o.field in ("data", "mask_prompt"))
"""The options for reading data in commands that do not train."""
