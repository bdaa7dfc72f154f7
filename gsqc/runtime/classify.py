# SPDX-License-Identifier: Apache-2.0
"""What a classifier says of texts: the probability of each label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.data import TokenSequence
from gsqc.data.labelled_text import sequence_of_text
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import system_errors
from gsqc.runtime.classes import logits_at, require_classifier
from gsqc.runtime.open_session import open_session
from gsqc.runtime.session import Session


@dataclass(frozen=True)
class LabelledText:
    """What a classifier says of a text.

    label          the likeliest
    probabilities  of each label, by its name, the likeliest first
    tokens         that the text has
    dropped        how many of them did not fit into a sequence
    """

    label: str
    probabilities: dict[str, float]
    tokens: int
    dropped: int = 0


def class_probabilities(session: Session, sequence: TokenSequence) -> npt.NDArray[np.float64]:
    """The probability of each label for each text of a sequence, float64 [texts, labels].

    A text begins where a token has a weight. The state does not change. They are for people to
    read: the softmax is one of floats. Raises OptionError, DataError, BundleError.
    """
    labels = require_classifier(session.bundle)
    session.token_losses(sequence)
    texts = np.flatnonzero(sequence.weights).tolist()
    logits = logits_at(session.executor.tensors, texts, len(labels))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    found: npt.NDArray[np.float64] = p / p.sum(-1, keepdims=True)
    return found


def classify_texts(
    session: Session, tokenizer: Tokenizer, texts: Iterable[str]
) -> list[LabelledText]:
    """What a session says of each text. Raises OptionError, DataError, BundleError."""
    labels, length = require_classifier(session.bundle), session.sequence_length
    found = []
    for text in texts:
        sequence, count = sequence_of_text(tokenizer, text, length)
        (p,) = class_probabilities(session, sequence)
        order = np.argsort(-p, kind="stable")
        named = {labels[k]: float(p[k]) for k in order}
        found.append(LabelledText(labels[order[0]], named, count, max(count - length, 0)))
    return found


@system_errors()
def classify(
    bundle: str | Path,
    texts: str | Iterable[str],
    *,
    run: str | Path | None = None,
    best: bool = False,
    threads: int | None = None,
) -> list[LabelledText]:
    """What a classifier says of each text (docs/classify.md).

    texts      a text or several
    run, best  as in `gsqc.evaluate`

    Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    session = open_session(bundle, run, best, threads)
    is_one = isinstance(texts, str) or not isinstance(texts, Iterable)
    given: Any = [texts] if is_one else texts
    return classify_texts(session, Tokenizer(session.bundle), given)
