# SPDX-License-Identifier: Apache-2.0
"""Forms of values during conversion: exported values have a batch dimension and views, ours have
neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch.fx

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
    """

    form: Form
    node: Node | None = None
    name: str = ""
    offset: int = 0
    number: float = 0.0


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
