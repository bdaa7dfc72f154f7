# SPDX-License-Identifier: Apache-2.0
"""gsqc eval: loss and perplexity on a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle.bundle import Bundle
from gsqc.cli.data_options import DataOption, MaskPromptOption
from gsqc.cli.output import BestOption, JsonOption, Output
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state
from gsqc.targets.registry import require_machine


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    data: DataOption,
    run: Annotated[
        Path | None, typer.Option(help="A run's directory; without it, the untrained adapter.")
    ] = None,
    best: BestOption = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first sequences.")] = None,
    mask_prompt: MaskPromptOption = True,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    json: JsonOption = False,
) -> None:
    """Loss of BUNDLE, or of what a run made of it, on a file."""
    out = Output(json)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    require_machine(opened)
    dataset = load_data(
        data, Tokenizer(opened), opened.manifest.sequence_length, mask_prompt=mask_prompt
    )
    if (report := dataset.report()) is not None:
        out.say(report)
    with out.console.status("evaluating"):
        session = Session(opened, run, threads=threads, best=best)
        result = session.evaluate(dataset.sequences[:limit])
    out.say(f"loss {result.loss:.4f}   perplexity {result.perplexity:.2f}   tokens {result.tokens}")
    out.emit({"loss": result.loss, "perplexity": result.perplexity, "tokens": result.tokens})
