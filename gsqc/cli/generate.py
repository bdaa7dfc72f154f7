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
)
from gsqc.data import chat_prompt
from gsqc.data.tokenizer import Tokenizer
from gsqc.limits import MAXIMUM_NEW_TOKENS, MAXIMUM_SEED, MAXIMUM_TEMPERATURE
from gsqc.option import Option
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state


def generate(
    bundle: BundleArgument,
    prompt: Annotated[str, Option("Text to continue, in the form of the training data's prompts.")],
    max_tokens: Annotated[
        int, Option("Most tokens to generate.", minimum=1, maximum=MAXIMUM_NEW_TOKENS)
    ] = 64,
    chat: Annotated[bool, Option("Put the prompt into the model's chat template.")] = False,
    system: Annotated[str | None, Option("System message before the prompt, with --chat.")] = None,
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
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Generate text with BUNDLE, or with what a run has learned."""
    out = Output(json)
    heat = Fraction(temperature)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer(opened)
    tokens = chat_prompt(tokenizer, prompt, system) if chat else tokenizer.encode_prompt(prompt)
    session = Session(opened, run, threads=threads, best=best)
    made: list[int] = []
    with out.console.status("generating") as status:
        for token in session.generate(tokens, max_tokens, heat, seed):
            made.append(token)
            status.update(tokenizer.decode(made[-60:])[-60:].replace("\n", " "))
    text = tokenizer.decode(made)
    out.say(text)
    out.emit({"text": text, "tokens": made})
