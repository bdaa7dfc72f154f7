# SPDX-License-Identifier: Apache-2.0
"""gsqc generate: continues a prompt."""

from __future__ import annotations

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
from gsqc.runtime.answer import Answer, Question, answer_prompt
from gsqc.runtime.classes import require_text_maker
from gsqc.runtime.generation import require_drawing
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
    require_state(run, BEST if best else STATE)
    opened = require_text_maker(Bundle.open(bundle), "gsqc generate")
    form, tokenizer = prompt_form(asked, opened, run), Tokenizer(opened)
    question = Question(prompt, form, require_drawing(max_tokens, temperature, seed), strict)
    if form.told is not None:
        out.note(form.told)
    answer = _answer(out, Session(opened, run, threads=threads, best=best), tokenizer, question)
    out.say(answer.text)
    for note in answer.notes:
        out.note(note)
    notes = [*filter(None, [form.told]), *answer.notes]
    out.emit({**vars(answer), "form": form.form, "notes": notes})


def _answer(out: Output, session: Session, tokenizer: Tokenizer, question: Question) -> Answer:
    """The answer. Its last words are shown while it is made."""
    with out.console.status("generating") as status:

        def watch(made: list[int]) -> None:
            status.update(tokenizer.decode(made[-60:])[-60:].replace("\n", " "))

        return answer_prompt(session, tokenizer, question, watch)
