# SPDX-License-Identifier: Apache-2.0
"""gsqc generate: continues a prompt."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import (
    BestOption,
    BundleArgument,
    JsonOption,
    RunStateOption,
    ThreadsOption,
    prompt_form,
)
from gsqc.data.prompt import PromptOptions
from gsqc.data.tokenizer import Tokenizer
from gsqc.limits import MAXIMUM_NEW_TOKENS, MAXIMUM_SEED, MAXIMUM_TEMPERATURE
from gsqc.option import Option
from gsqc.runtime.generation import require_room, what_is_dropped
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state


def generate(
    bundle: BundleArgument,
    prompt: Annotated[
        str, Option("Text to answer. It takes the form that the run's data gave its prompts.")
    ],
    asked: PromptOptions,
    max_tokens: Annotated[
        int, Option("Most tokens to generate.", minimum=1, maximum=MAXIMUM_NEW_TOKENS)
    ] = 64,
    run: RunStateOption = None,
    best: BestOption = False,
    temperature: Annotated[
        float | str,
        Option(
            "Temperature of the draws. 0 takes the likeliest token.", maximum=MAXIMUM_TEMPERATURE
        ),
    ] = "0",
    seed: Annotated[
        int, Option("Seed of the draws, at a temperature above 0.", maximum=MAXIMUM_SEED)
    ] = 0,
    strict: Annotated[
        bool, Option("Refuse a prompt that is longer than a sequence. Else its beginning is lost.")
    ] = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Generate text with BUNDLE, or with what a run has learned."""
    out = Output(json)
    heat = Fraction(temperature)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    form = prompt_form(asked, opened, run)
    tokenizer = Tokenizer(opened)
    tokens, length = form.tokens(tokenizer, prompt), opened.manifest.sequence_length
    if strict:
        require_room(len(tokens), length)
    if form.told is not None:
        out.note(form.told)
    session = Session(opened, run, threads=threads, best=best)
    made: list[int] = []
    with out.console.status("generating") as status:
        for token in session.generate(tokens, max_tokens, heat, seed):
            made.append(token)
            status.update(tokenizer.decode(made[-60:])[-60:].replace("\n", " "))
    text, dropped = tokenizer.decode(made), what_is_dropped(len(tokens), len(made), length)
    out.say(text)
    for line in dropped:
        out.note(line)
    out.emit(
        {
            "text": text,
            "tokens": made,
            "prompt_tokens": len(tokens),
            "dropped_tokens": max(len(tokens) - length, 0),
            "form": form.form,
            "notes": [*filter(None, [form.told]), *dropped],
        }
    )
