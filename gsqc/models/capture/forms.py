# SPDX-License-Identifier: Apache-2.0
"""Forms of values during conversion: exported values have a batch dimension and views, ours have
neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch.fx
from torch import Tensor

Node = torch.fx.Node
Shape = tuple[int, ...]


class Form(Enum):
    """How an exported value [1, …] is held in our graph."""

    ROWS = "activations"  # [T, n], as our [T, n]
    SPLIT = "activations split into heads"  # [T, H, D], as our [T, H·D]
    HEADS = "heads"  # [H, T, D], as ours
    JOINED = "heads, tokens first"  # [T, H, D], as our [H, T, D]
    TABLE = "a rope table"
    NUMBER = "a number"
    KNOWN = "numbers that no token changes"
    TRANSPOSED = "a parameter, transposed"
    SIGMOID = "a sigmoid"  # of number · x, with our node x
    GRID = "activations split into a grid"  # [T, A, B, D], as our [T, A·B·D]
    KEYS = "heads, transposed"  # [H, D, T], as our [H, T, D]
    SCORES = "scores of attention"  # [H, T, T]
    ROUTED = "weights of experts"  # [T, E], or [T, k] of the chosen ones
    CHOICE = "a choice of experts"  # [T, k]
    TOTAL = "sums of weights of experts"  # [T, 1]
    PROBABILITIES = "probabilities of attention"  # [H, T, T]
    OVER_TOKENS = "a sum over tokens"  # [n], with our node [T, n] of what is summed
    TOKENS = "tokens"
    POSITIONS = "positions"
    TYPES = "token types"
    PARAMETER = "a parameter"
    SHIFTED = "a parameter and a number"
    OTHER = "a constant"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ExportedValue:
    """An exported value: its form, and our node, if it has one; parameters and tables have a name
    instead, and numbers are themselves.

    offset  what was added to positions
    number  a number's own, or what was added to a parameter
    known   a tensor, or several, that no token changes
    scores  scores of attention, or what their softmax is of
    routing what a router has done so far
    """

    form: Form
    node: Node | None = None
    name: str = ""
    offset: int = 0
    number: float = 0.0
    known: Any = None
    scores: Scores | None = None
    routing: Routing | None = None


@dataclass(frozen=True)
class Scores:
    """Scores q · kᵀ · scale + Σ terms of attention that a model writes out.

    q, k   our nodes [H, T, D] and [G, T, D]
    terms  known tensors of up to 4 dimensions that broadcast to [1, H, T, T]. Hidden columns have
           numbers below -1e8
    """

    q: Node
    k: Node
    scale: float
    terms: tuple[Tensor, ...] = ()

    def scaled(self, factor: float) -> Scores:
        """The scores times a number."""
        return replace(self, scale=self.scale * factor, terms=tuple(t * factor for t in self.terms))

    def plus(self, term: Tensor) -> Scores:
        """The scores with one more term."""
        return replace(self, terms=(*self.terms, term))


@dataclass(frozen=True)
class Routing:
    """What a router has done so far.

    logits          our node [T, E]
    is_probability  a softmax was taken
    top_k           how many were chosen, None before
    is_normalised   the weights of the chosen ones sum to 1
    """

    logits: Node
    is_probability: bool = False
    top_k: int | None = None
    is_normalised: bool = False


class Unsupported(Exception):
    """The operator has no entry, or is used in a way that has none; the text follows the operator's
    name.
    """


def shape_of(node: Node) -> Shape:
    """The shape of an exported node's result."""
    return tuple(int(d) for d in node.meta["val"].shape)


def without_batch(shape: Shape, rank: int) -> Shape | None:
    """The shape as one of `rank` dimensions, with or without a batch of one before them; None for
    other shapes.
    """
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape if len(shape) == rank else None
