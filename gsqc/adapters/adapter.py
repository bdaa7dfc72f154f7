# SPDX-License-Identifier: Apache-2.0
"""What an adapter is: settings, trainable matrices, what they do to a linear, and how they merge.

A kind of adapter is one file of this folder. Its gradients come from the rules of the ops that it
calls. docs/add-an-adapter.md is the way to a new one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gsqc.adapters.linears import is_name
from gsqc.named import Named


@dataclass(frozen=True)
class Parameter:
    """A trainable matrix, stored as int32 with 24 fraction bits.

    shape   (rows, columns)
    fan_in  its initial values are uniform in ±1/√fan_in, or zeros if it is 0
    """

    shape: tuple[int, int]
    fan_in: int = 0


@dataclass(frozen=True)
class LoraForm:
    """What an adapter adds to W as alpha / r · B·A, for A [r, columns] and B [rows, r]."""

    a: Any
    b: Any
    alpha: int


@dataclass(frozen=True)
class LoraPlace:
    """Where an adapter can hold any LoRA up to its rank.

    a, b         the names of the matrices that take A and B
    rank, alpha  of the adapter
    """

    a: str
    b: str
    rank: int
    alpha: int


@dataclass(frozen=True)
class PeftForm:
    """An adapter as a class of PEFT has it.

    settings  what adapter_config.json says beside the linears and `peft_type`
    tensors   the tensors of one linear, by what their names end with
    of_bias   whether PEFT's class changes a linear's bias too, which gsqc's never does
    """

    settings: Mapping[str, Any]
    tensors: Mapping[str, Any]
    of_bias: bool = False


class Site(Protocol):
    """A linear y = W·x that an adapter changes. An adapter's `forward` is written against it.

    x, w   the operands of the linear in the graph: Rows [T, columns] and [rows, columns]
    shape  of W: (rows, columns)
    bits   the bits of its result, a Row [T, rows]
    """

    x: Any
    w: Any
    shape: tuple[int, int]
    bits: int

    def base(self) -> Any:
        """W·x as a Row-24."""

    def trainable(self, name: str) -> Any:
        """The matrix of that name in `parameters`, as a Row-24."""

    def array(self, name: str) -> Any:
        """The array of that name in `arrays`, of the layer that the function runs for."""

    def linear(self, x: Any, w: Any, bits: int) -> Any:
        """x · wᵀ as a Row-bits. The operands get the bits of `--bits`: W those of the base in
        products, all others those of activations. Columns of x are shifted if the site says so.
        """

    def call(self, operation: Any, *values: Any, **attributes: Any) -> Any:
        """A call of any op: its result, or a tuple of them."""


class Adapter(Named, ABC):
    """The settings of a kind of adapter. A kind is a frozen dataclass of options and `linears`.

    linears  the names (`gsqc.adapters.linears`) of the linears that it changes; none for all
    """

    summary: ClassVar[str]
    """What it does to a linear, in a line. `gsqc adapters` shows it."""
    source: ClassVar[str]
    """The paper that it is from."""
    peft_type: ClassVar[str] = ""
    """The class of PEFT that does the same, if there is one beside LoRA."""
    is_default: ClassVar[bool] = False
    """Whether it is the adapter of a compilation that names none. One kind is."""
    linears: tuple[str, ...]

    def problems(self) -> list[str]:
        """A sentence for each setting that is out of range."""
        return super().problems() + [
            f"{name!r:.80} is no name of a linear" for name in self.linears if not is_name(name)
        ]

    def texts(self) -> list[str]:
        """The settings as they are written, and the linears if some are named."""
        return super().texts() + self._of_linears("linears=")

    def _of_linears(self, before: str) -> list[str]:
        """The named linears behind a text, or nothing for all."""
        return [f"{before}{'+'.join(self.linears)}"] if self.linears else []

    def unfit(self, rows: int, columns: int) -> str:
        """Why a linear with W [rows, columns] cannot have it: "", or a sentence that goes on from
        the linear's name.
        """
        return ""

    @abstractmethod
    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """The trainable matrices of a linear with W [rows, columns], by name."""

    def arrays(self, w: Any, seed: int, stream: int) -> dict[str, Any]:
        """Arrays of a linear that are not trained, of integers, by name. The bundle holds them.

        w       W as the base stores it, float32 [rows, columns]. Shapes may not depend on it
        seed    of the compilation
        stream  the number of the linear among those of all layers, for what is drawn by chance
        """
        return {}

    @abstractmethod
    def forward(self, site: Site) -> Any:
        """What takes the place of y: a Row-bits of `site.bits`, made of `site.base()` and ops."""

    @abstractmethod
    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """The W that gives alone what the linear with the adapter gives.

        w         float32 or float64 [rows, columns]; the result is float64
        matrices  the trained matrices as float64, by name
        arrays    those of `arrays`, flat
        """

    def as_lora(self, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoraForm | None:
        """What is added to W, if it is of LoRA's form, else None.

        gsqc exports what is of this form to PEFT, mlx-lm and llama.cpp. All linears of an adapter
        have the same rank and alpha.
        """
        return None

    def lora_place(self) -> LoraPlace | None:
        """Where a LoRA of another program goes, or None if it does not fit into the adapter."""
        return None

    def to_peft(self, matrices: Mapping[str, Any]) -> PeftForm | None:
        """The adapter as PEFT's `peft_type` has it, of float64 matrices. None without a type."""
        return None

    def from_peft(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The matrices whose `to_peft` has these float64 tensors. Only with a `peft_type`."""
        raise NotImplementedError

    def describe(self) -> str:
        """The settings in a sentence, for people."""
        numbers = [f"{name} {value}" for name, value in self.values().items()]
        return ", ".join([self.kind, *numbers, *self._of_linears("")])
