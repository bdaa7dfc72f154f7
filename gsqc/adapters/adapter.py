# SPDX-License-Identifier: Apache-2.0
"""What an adapter is: settings, trainable matrices, what they do to a linear, and how they merge.

A kind of adapter is one file of this folder. Its gradients come from the rules of the ops that it
calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gsqc.adapters.linears import is_name
from gsqc.option import Option, options_of, problems_of


@dataclass(frozen=True)
class Parameter:
    """A trainable matrix, stored as int32 with 24 fraction bits.

    shape   (rows, columns)
    fan_in  its initial values are uniform in ±1/√fan_in, or zeros if it is 0
    """

    shape: tuple[int, int]
    fan_in: int = 0


class Site(Protocol):
    """A linear y = W·x that an adapter changes. An adapter's `forward` is written against it.

    x, w  the operands of the linear in the graph: Rows [T, columns] and [rows, columns]
    bits  the bits of its result, a Row [T, rows]
    """

    x: Any
    w: Any
    bits: int

    def base(self) -> Any:
        """W·x as a Row-24."""

    def trainable(self, name: str) -> Any:
        """The matrix of that name in `parameters`, as a Row-24."""

    def linear(self, x: Any, w: Any, bits: int) -> Any:
        """x · wᵀ as a Row-bits. The operands get the bits of `--bits`: W those of the base in
        products, all others those of activations. Columns of x are shifted if the site says so.
        """

    def call(self, operation: Any, *values: Any, **attributes: Any) -> Any:
        """A call of any op: its result, or a tuple of them."""


class Adapter(ABC):
    """The settings of a kind of adapter. A kind is a frozen dataclass of options and `linears`.

    linears  the names (`gsqc.adapters.linears`) of the linears that it changes; none for all
    """

    kind: ClassVar[str]
    """The name of the kind in `--adapter`."""
    linears: tuple[str, ...]

    @classmethod
    def settings(cls) -> tuple[Option, ...]:
        """The options that `--adapter` takes beside the linears. They are whole numbers."""
        return options_of(cls)

    def problems(self) -> list[str]:
        """A sentence for each setting that is out of range."""
        problems = problems_of(type(self), vars(self))
        problems += [
            f"{name!r:.80} is no name of a linear" for name in self.linears if not is_name(name)
        ]
        return problems

    def __str__(self) -> str:
        numbers = ",".join(f"{o.name}={getattr(self, o.name)}" for o in self.settings())
        return f"{self.kind}:{numbers}{self._of_linears(',linears=')}"

    def _of_linears(self, before: str) -> str:
        """The named linears behind a text, or nothing for all."""
        return f"{before}{'+'.join(self.linears)}" if self.linears else ""

    @abstractmethod
    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """The trainable matrices of a linear with W [rows, columns], by name."""

    @abstractmethod
    def forward(self, site: Site) -> Any:
        """What takes the place of y: a Row-bits of `site.bits`, made of `site.base()` and ops."""

    @abstractmethod
    def merge(self, matrices: dict[str, Any]) -> Any:
        """What training has added to W, float64 [rows, columns], from float64 matrices by name."""

    def as_lora(self, matrices: dict[str, Any]) -> tuple[Any, Any] | None:
        """A and B such that alpha / rank · B·A is exactly what was added to W, or None.

        gsqc exports adapters that have them to PEFT and llama.cpp. Their settings have `rank` and
        `alpha`.
        """
        return None

    def describe(self) -> str:
        """The settings in a sentence, for people."""
        numbers = ", ".join(f"{o.name} {getattr(self, o.name)}" for o in self.settings())
        return f"{self.kind}, {numbers}{self._of_linears(', ')}"
