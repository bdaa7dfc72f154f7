# SPDX-License-Identifier: Apache-2.0
"""What `gsqc eval` is asked to measure, and what it found to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gsqc.data import TokenSequence
from gsqc.data.options import GROUP
from gsqc.data.prompt import PromptOptions
from gsqc.limits import MAXIMUM_COUNT
from gsqc.option import check_options, option
from gsqc.runtime.results import EvaluationResult, bits_per_byte
from gsqc.runtime.session import Session


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and how it is read. `asked` is the form of bare prompts.

    Raises OptionError.
    """

    data: tuple[Path, ...] = option(
        (),
        help="Files or directories, as for gsqc train. Not needed with --held-out.",
        group=GROUP,
    )
    mask_prompt: bool | None = option(
        None,
        help="Only completions and the assistant's turns have a loss. Without it, as in the run.",
        opposite="--no-mask-prompt",
        group=GROUP,
    )
    validation: str | None = option(
        None,
        help="Measure only the share that training with it holds out: 0.1 or 10%.",
        group=GROUP,
    )
    held_out: bool = option(False, help="Measure only what the run held out.", group=GROUP)
    perplexity: Path | None = option(
        None,
        help="A text, in place of records: measure its perplexity and its bits per byte.",
        group=GROUP,
    )
    limit: int | None = option(
        None, help="Take only the first sequences.", minimum=1, maximum=MAXIMUM_COUNT
    )
    asked: PromptOptions = field(default_factory=PromptOptions)

    def __post_init__(self) -> None:
        """Check all values."""
        check_options(self)


@dataclass(frozen=True)
class EvaluationData:
    """What is measured.

    notes       how it was read, and what was cut
    about       what it is, if the run says it
    text_bytes  the bytes of a text whose perplexity is measured
    """

    sequences: Sequence[TokenSequence]
    notes: tuple[str, ...]
    about: str = ""
    text_bytes: int | None = None

    def measure(self, session: Session) -> EvaluationResult:
        """What a session says of it. Raises DataError, BundleError."""
        result = session.evaluate(self.sequences)
        bits = None if self.text_bytes is None else bits_per_byte(result, self.text_bytes)
        return replace(result, notes=self.notes, bits_per_byte=bits)
