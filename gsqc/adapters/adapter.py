# SPDX-License-Identifier: Apache-2.0
"""What an adapter is: settings, trainable matrices, what they add to a linear, and how they merge
into its weight.

A kind of adapter is one file of this folder. Its gradients come from the rules of the ops that it
calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gsqc.adapters.linears import LINEARS
from gsqc.option import Option, options_of, problems_of


@dataclass(frozen=True)
class Parameter:
    """A trainable matrix, int32 with 24 fraction bits.

    fan_in  its initial values are uniform in ±1/√fan_in; 0 stands for zeros
    """

    shape: tuple[int, int]
    fan_in: int = 0


class Site(Protocol):
    """A linear y = W·x that an adapter changes: what its `forward` is written against.

    x, w  the linear's operands in the graph       bits  the width of its result
    """

    x: Any
    w: Any
    bits: int

    def base(self) -> Any:
        """W·x, 24 bits wide."""

    def trainable(self, name: str) -> Any:
        """The matrix of that name in `parameters`, as rows."""

    def linear(self, x: Any, w: Any, bits: int) -> Any:
        """A product with the widths of this linear's operands."""

    def call(self, operation: Any, *values: Any, **attributes: Any) -> Any:
        """Any op."""


class Adapter(ABC):
    """The settings of one kind of adapter: a frozen dataclass of options and of `linears`.

    linears  the short names of the linears that it changes, of LINEARS
    """

    kind: ClassVar[str]
    """As `--adapter` names it."""
    linears: tuple[str, ...]

    @classmethod
    def settings(cls) -> tuple[Option, ...]:
        """What `--adapter` takes beside the linears: whole numbers."""
        return options_of(cls)

    def problems(self) -> list[str]:
        """What is out of range, a sentence each."""
        problems = problems_of(type(self), vars(self))
        if not self.linears or not set(self.linears) <= set(LINEARS):
            problems.append(f"linears are not of {'+'.join(LINEARS)}")
        return problems

    def __str__(self) -> str:
        numbers = ",".join(f"{o.name}={getattr(self, o.name)}" for o in self.settings())
        return f"{self.kind}:{numbers},linears={'+'.join(self.linears)}"

    @abstractmethod
    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """The trainable matrices of a linear with W [rows, columns], by name."""

    @abstractmethod
    def forward(self, site: Site) -> Any:
        """What takes the place of y: a Row of `site.bits`, from `site.base()` and ops."""

    @abstractmethod
    def merge(self, matrices: dict[str, Any]) -> Any:
        """What training has added to W, as float64 [rows, columns], from the matrices as float64."""

    def as_lora(self, matrices: dict[str, Any]) -> tuple[Any, Any] | None:
        """(A, B) such that alpha / rank · B·A is exactly what was added to W; None if there are none.

        Adapters that have them are exported to PEFT and llama.cpp. Their settings have `rank` and `alpha`.
        """
        return None

    def describe(self) -> str:
        """In a sentence, for people."""
        numbers = ", ".join(f"{o.name} {getattr(self, o.name)}" for o in self.settings())
        return f"{self.kind}, {numbers}, {'+'.join(self.linears)}"
