# SPDX-License-Identifier: Apache-2.0
"""gsqc eval: measures loss and perplexity on files."""

from __future__ import annotations

from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import (
    DATA_ALONE,
    BestOption,
    BundleArgument,
    JsonOption,
    RunStateOption,
    ThreadsOption,
)
from gsqc.data import DataOptions, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.limits import MAXIMUM_COUNT
from gsqc.option import Option
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state


def evaluate(
    bundle: BundleArgument,
    reading: Annotated[DataOptions, DATA_ALONE],
    run: RunStateOption = None,
    best: BestOption = False,
    limit: Annotated[
        int | None, Option("Take only the first sequences.", minimum=1, maximum=MAXIMUM_COUNT)
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the loss of BUNDLE, or of a run, on files."""
    out = Output(json)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    dataset, _ = load_split(reading, Tokenizer(opened), opened.manifest.sequence_length)
    if (report := dataset.report()) is not None:
        out.say(report)
    with out.console.status("evaluating"):
        session = Session(opened, run, threads=threads, best=best)
        result = session.evaluate(dataset.sequences[:limit])
    out.say(f"loss {result.loss:.4f}   perplexity {result.perplexity:.2f}   tokens {result.tokens}")
    out.emit({"loss": result.loss, "perplexity": result.perplexity, "tokens": result.tokens})
