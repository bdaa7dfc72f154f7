# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, beside those of gsqc/data and gsqc/training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.data.prompt import PromptForm, PromptOptions, choose_form
from gsqc.limits import MAXIMUM_THREADS
from gsqc.models.hub import fetch_model, is_here
from gsqc.option import Option
from gsqc.printable import printable
from gsqc.runtime.store import RunStore

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
        "Known name (smollm2-135m), model directory, .gguf, .onnx or .pt2 file, or ORG/NAME from "
        "the hub's cache.",
        is_argument=True,
        example="smollm2-135m",
        decides_bits=True,
    ),
]
DownloadOption = Annotated[
    bool,
    Option(
        "Fetch MODEL, ORG/NAME, from the Hugging Face hub if it is not in the cache here: "
        "safetensors, settings and tokenizer, no code. Without it the network is never asked."
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


def fetch_if_asked(download: bool, model: str, out: Output) -> None:
    """Fetch a model that is not here from the hub. Raises ModelError and OptionError."""
    if not download or is_here(model):
        return
    with out.console.status(f"fetching {printable(model)}"):
        place = fetch_model(model)
    out.say(f"{model} is in {place}")


def prompt_form(asked: PromptOptions, bundle: Bundle, run: Path | None) -> PromptForm:
    """The form that prompts have for a run, or without one. Raises OptionError, RunError."""
    recorded = None if run is None else RunStore(run, bundle).data_form
    return choose_form(asked, recorded, of_run=run is not None)
