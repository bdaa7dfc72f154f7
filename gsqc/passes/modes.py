# SPDX-License-Identifier: Apache-2.0
"""Modes: how a part of the model runs. Training reads a sequence, generation the next tokens."""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.passes.step import StepOptions

FORWARD, BACKWARD, PREPARE, PREPARE_DECODE = "forward", "backward", "prepare", "prepare_decode"
"""The functions that passes make of a part, beside those of its modes."""


@dataclass(frozen=True)
class Mode:
    """A way to run the model.

    name       of the schedule
    tokens     how many are read at once
    cached     how many keys and values are kept; None where none are, in training
    inputs     the buffers of the tokens and of their positions
    """

    name: str
    tokens: int
    cached: int | None = None
    inputs: tuple[str, str] = ("tokens", "positions")

    @property
    def generates(self) -> bool:
        """Whether keys and values of earlier tokens are read."""
        return self.cached is not None

    def function(self, part: str) -> str:
        """The name of a part's function in this mode."""
        return f"{part}_{self.name}" if self.generates else part


def training_mode(options: StepOptions) -> Mode:
    """A whole sequence, forward and backward."""
    return Mode("train", options.tokens)


def generation_modes(options: StepOptions) -> list[Mode]:
    """The next token; and several tokens of a prompt, where the target reads them at once. A
    classifier has none.
    """
    if not options.generates:
        return []
    # Caches are as long as a training sequence: the tables of the rotary embedding end there.
    modes = [Mode("decode", 1, options.tokens, ("token", "position"))]
    if options.prompt_chunk > 1:
        inputs = ("chunk", "chunk_positions")
        modes.append(Mode("prefill", options.prompt_chunk, options.tokens, inputs))
    return modes
