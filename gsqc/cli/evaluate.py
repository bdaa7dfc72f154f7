# SPDX-License-Identifier: Apache-2.0
"""gsqc eval: measures loss and perplexity on files, on what a run held out, or on a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.output import Output
from gsqc.cli.shared import (
    BestOption,
    BundleArgument,
    JsonOption,
    RunStateOption,
    ThreadsOption,
)
from gsqc.data.prompt import PromptOptions
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, RunStore, require_state
from gsqc.training.evaluation_data import load_evaluation
from gsqc.training.evaluation_options import EvaluationOptions

FORM = OptionsOf(PromptOptions, has=lambda o: o.field != "input")


def evaluate(
    bundle: BundleArgument,
    wanted: EvaluationOptions,
    asked: Annotated[PromptOptions, FORM],
    run: RunStateOption = None,
    best: BestOption = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the loss of BUNDLE, or of a run, on records or on a text."""
    out = Output(json)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    store = None if run is None else RunStore(run, opened)
    found = load_evaluation(replace(wanted, asked=asked), opened, store)
    notes = [*filter(None, [found.about]), *found.notes]
    for note in notes:
        out.say(note)
    with out.console.status("evaluating"):
        session = Session(opened, run, threads=threads, best=best)
        result = found.measure(session)
    bits = result.bits_per_byte
    if result.accuracy is not None:
        about = f"accuracy {result.accuracy:.4f}   texts {result.tokens}"
    else:
        about = f"perplexity {result.perplexity:.2f}   tokens {result.tokens}"
        about += "" if bits is None else f"   bits per byte {bits:.4f}"
    out.say(f"loss {result.loss:.4f}   {about}")
    out.emit({**{k: v for k, v in vars(result).items() if v is not None}, "notes": notes})
