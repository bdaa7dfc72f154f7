# SPDX-License-Identifier: Apache-2.0
"""gsqc generate: text from a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import BestOption, JsonOption, Output
from gsqc.data import chat_prompt
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state
from gsqc.training.learning_rate import parse_fraction


def generate(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    prompt: Annotated[
        str, typer.Option(help="The text to go on from, as a prompt of the training data.")
    ],
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")
    ] = False,
    system: Annotated[
        str | None, typer.Option(help="The system message before it, with --chat.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run's directory; without it, the untrained adapter.")
    ] = None,
    best: BestOption = False,
    temperature: Annotated[str, typer.Option(help="0 takes the likeliest token.")] = "0",
    seed: Annotated[int, typer.Option(min=0, help="Of the draws, at a temperature above 0.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    json: JsonOption = False,
) -> None:
    """Generate from BUNDLE, or from what a run made of it."""
    out = Output(json)
    heat = parse_fraction(temperature, "--temperature", 100)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer(opened)
    tokens = chat_prompt(tokenizer, prompt, system) if chat else tokenizer.encode_prompt(prompt)
    session = Session(opened, run, threads=threads, best=best)
    made: list[int] = []
    with out.console.status("generating") as status:
        for token in session.generate(tokens, max_tokens, heat, seed):
            made.append(token)
            status.update(tokenizer.decode(made)[-60:].replace("\n", " "))
    text = tokenizer.decode(made)
    out.say(text)
    out.emit({"text": text, "tokens": made})
