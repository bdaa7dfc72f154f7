# SPDX-License-Identifier: Apache-2.0
"""Roles: what a function's placeholders and results stand for, said once and never guessed from a
name.

A pass that makes a placeholder gives it a role. Later passes ask the role: `hoist_constants` for
what is frozen, `list_buffers` for what lives outside the arena, `build_schedules` for the buffer to
bind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What kind of thing a placeholder or a result is."""

    INPUT = "input"
    """Integers that the host gives: tokens, labels, positions, the learning rate."""
    OUTPUT = "output"
    """What the host reads: losses and logits."""
    STREAM = "stream"
    """The residual stream between functions, and its gradient on the way back."""
    WEIGHT = "weight"
    """A frozen parameter of the model. Until quantise_base as a whole, then as arrays of codes."""
    CONSTANT = "constant"
    """A frozen table that depends on positions alone, as those of the rotary embedding."""
    TRAINABLE = "trainable"
    """A matrix of an adapter."""
    STATE = "state"
    """What the optimizer keeps for a trainable matrix."""
    SUM = "sum"
    """A limb of a gradient that is summed over the sequences of a step."""
    NORM = "norm"
    """The squared norm of the whole gradient, as far as it was added up."""
    SAVED = "saved"
    """What a forward function keeps for its backward."""
    PREPARED = "prepared"
    """What a prepare function made of values that do not change during a session or a generation.
    """
    CACHE = "cache"
    """Keys or values of the tokens that were read before."""


FROZEN = frozenset({Kind.WEIGHT, Kind.CONSTANT})
"""What never changes while a session runs."""


@dataclass(frozen=True)
class Role:
    """The role of a placeholder or a result.

    A result with the role of a placeholder is that placeholder's next value.

    name      which of its kind: a parameter, an input, an adapter's matrix, a part of the stream
    position  of a block's weight: its place among the block's parameters; None outside of blocks
    array     of a weight that is stored as codes: which array of them
    """

    kind: Kind
    name: str
    position: int | None = None
    array: str = ""

    @property
    def is_frozen(self) -> bool:
        """Whether the value never changes while a session runs."""
        return self.kind in FROZEN

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.name, self.array) if part)


STREAM_IN, STREAM_OUT = Role(Kind.STREAM, "x"), Role(Kind.STREAM, "x_out")
GRADIENT_IN, GRADIENT_OUT = Role(Kind.STREAM, "dx_out"), Role(Kind.STREAM, "dx")
"""A backward function takes the gradient of what its forward gave, and gives that of what it took.
"""


@dataclass(frozen=True)
class Notes:
    """What lowering knows of a call, and later passes need.

    gradient_bits  of a linear: the width of the gradients in its backward products
    linear         of a linear of a block: its name (`gsqc.adapters.linears`), by which adapters
                   choose
    recompute      backward makes the result again instead of keeping it
    """

    gradient_bits: int | None = None
    linear: str = ""
    recompute: bool = False
