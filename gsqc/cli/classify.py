# SPDX-License-Identifier: Apache-2.0
"""gsqc classify: says which label a classifier gives a text."""

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
)
from gsqc.data.tokenizer import Tokenizer
from gsqc.option import Option
from gsqc.printable import printable
from gsqc.runtime.classes import require_classifier
from gsqc.runtime.classify import classify_texts
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state

SHOWN = 5
"""Labels of a text that are printed. JSON has all."""


def classify(
    bundle: BundleArgument,
    text: Annotated[str, Option("Text to classify.")],
    run: RunStateOption = None,
    best: BestOption = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Say which label BUNDLE, or a run, gives a text, and how sure it is."""
    out = Output(json)
    require_state(run, BEST if best else STATE)
    opened = Bundle.open(bundle)
    require_classifier(opened)
    session = Session(opened, run, threads=threads, best=best)
    (found,) = classify_texts(session, Tokenizer(opened), [text])
    named = list(found.probabilities.items())
    for label, probability in named[:SHOWN]:
        out.say(f"{probability:.4f}   {printable(label)}")
    if len(named) > SHOWN:
        out.say(f"and {len(named) - SHOWN} more labels")
    if found.dropped:
        out.note(
            f"the last {found.dropped} of the text's {found.tokens} tokens were dropped: "
            f"the bundle's sequences have {session.sequence_length}"
        )
    out.emit(vars(found))
