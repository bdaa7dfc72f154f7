# SPDX-License-Identifier: Apache-2.0
"""What is tried with each tiny model: capture and logits, which are cheap, then a whole bundle."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures.build import build, write
from benchmarks.architectures.bundle_stages import Trial, bundle_stages
from benchmarks.architectures.classifier_stages import ClassifierTrial
from benchmarks.architectures.families import Family
from gsqc.compiler.compile import open_model, step_options
from gsqc.compiler.options import CompileOptions
from gsqc.errors import GsqcError
from gsqc.models.capture import CapturedModel, capture_loaded, run_float
from gsqc.passes.lower_model import lower_model
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.passes.step import Step

TOKENS = 32
LOGITS_LIMIT = 1e-5
"""Of the largest logit: both sides are float32 sums of the same terms in another order."""


@dataclass
class Row:
    """What was found about a family.

    state    captured, with the first passes behind it; refused by gsqc's own words; or failed in
             another way, which is a fault
    error    the words of a refusal or failure, with its hint
    logits   largest difference to transformers' logits, over the largest logit
    seconds  of the processor, for capture and logits
    task     generate or classify, as --task of compile
    further  what `bundle_stages` found
    """

    name: str
    type: str
    state: str = "captured"
    error: str = ""
    logits: float | None = None
    seconds: float = 0.0
    task: str = "generate"
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether it was captured with the logits of transformers."""
        return self.state == "captured" and self.logits is not None and self.logits <= LOGITS_LIMIT

    @property
    def is_fault(self) -> bool:
        """Whether logits differ, or something failed that may be right or refused only."""
        values = (self.state, *self.further.values())
        failed = any(str(value).startswith(("failed", "differ")) for value in values)
        return failed or (self.logits is not None and not self.is_right)


def tokens() -> torch.Tensor:
    """The tokens [T] that the logits are compared on: bytes, which every family has."""
    return torch.randint(0, 256, (TOKENS,), generator=torch.Generator().manual_seed(1))


def lower(captured: CapturedModel, options: CompileOptions) -> None:
    """The first passes. ModelError if the model is no embedding, blocks in a row and head."""
    lower_model(outline_blocks(Step(captured.graph, _no_codes, step_options(options))))


def run_transformers(model: Any, task: str, given: torch.Tensor) -> torch.Tensor:
    """transformers' logits of tokens [T]: [T, V] of a language model, [1, C] of a classifier."""
    if task == "classify":
        logits: torch.Tensor = model(input_ids=given[None]).logits
        return logits
    of_tokens: torch.Tensor = model(input_ids=given[None], use_cache=False).logits[0]
    return of_tokens


def _no_codes(*_: Any) -> Any:
    raise AssertionError("these passes need no codes")


def run_family(family: Family, folder: Path, *, whole: bool = False) -> Row:
    """Build, capture and compare one family below `folder`. `whole` compiles it too."""
    row = Row(family.name, family.type, task=family.task)
    options = CompileOptions(Path("model.gsqc"), sequence_length=TOKENS, task=family.task)
    start = time.process_time()
    try:
        model = build(family)
        directory = write(model, folder / family.name)
        start = time.process_time()
        captured = capture_loaded(open_model(str(directory), options), TOKENS)
        lower(captured, options)
        with torch.no_grad():
            expected = run_transformers(model, family.task, tokens())
            found = run_float(captured, tokens())[: len(expected)]
            difference = (found - expected).abs().max()
        row.logits = float(difference / expected.abs().max())
    except GsqcError as error:
        row.state, row.error = "refused", f"{error}\nhint: {error.hint}"
        return row
    except Exception as error:  # the matrix goes on, and shows it
        row.state, row.error = "failed", f"{type(error).__name__}: {error}"
        return row
    finally:
        row.seconds = round(time.process_time() - start, 1)
    if whole:
        trial = ClassifierTrial if family.task == "classify" else Trial
        row.further = bundle_stages(trial(family, directory, folder))
    return row
