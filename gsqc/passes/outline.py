# SPDX-License-Identifier: Apache-2.0
"""The parts of a decoder: embedding, kinds of blocks, head, and the parameters that each of them
uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch.fx

Node = torch.fx.Node


class Storage(StrEnum):
    """How a bundle stores a frozen parameter."""

    CODES = "codes"
    """4 or 8 bits a number, de-quantised by an op where it is used: the blocks' matrices."""
    CODES_ROW = "row codes"
    """Row-16 as codes, de-quantised likewise: the blocks' vectors."""
    TABLE = "table"
    """GSE-8 along the hidden axis, read as it is: the embedding, and what gives logits."""
    ROW = "row"
    """Row-16, read as it is: vectors outside of the blocks."""

    @property
    def is_coded(self) -> bool:
        """Whether an op reads it."""
        return self in (Storage.CODES, Storage.CODES_ROW)


@dataclass(frozen=True)
class Parameter:
    """A frozen parameter of a part: its placeholder in the captured graph, its name, shape and
    storage.
    """

    node: Node
    name: str
    shape: tuple[int, ...]
    storage: Storage


@dataclass(frozen=True)
class Part:
    """A piece of the captured graph: its calls, the activation or tokens it takes, its parameters
    by first use.
    """

    nodes: list[Node]
    input: Node
    parameters: list[Parameter]


@dataclass(frozen=True)
class Outline:
    """A decoder in parts.

    kinds        the blocks that differ, by name: each is compiled once
    layer_kinds  the kind of each layer
    names        the parameters of each layer, in the order of its kind's `parameters`
    """

    embed: Part
    kinds: dict[str, Part]
    head: Part
    layer_kinds: list[str]
    names: list[list[str]]

    @property
    def layers(self) -> int:
        """How many decoder blocks run one after the other."""
        return len(self.layer_kinds)

    def layers_of(self, kind: str) -> list[int]:
        """The layers of a kind."""
        return [layer for layer, own in enumerate(self.layer_kinds) if own == kind]
