# SPDX-License-Identifier: Apache-2.0
"""lora: y = W·x + alpha / rank · B·A·x.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. A [rank, k]
begins uniform in ±1/√k, as in PEFT, and B [n, rank] with zeros. So the output of the first step is
that of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.adapters.adapter import Adapter, Parameter, Site
from gsqc.limits import MAXIMUM_RANK
from gsqc.numerics.ops.add import add, scale
from gsqc.option import option


@dataclass(frozen=True)
class Lora(Adapter):
    """The settings of a LoRA adapter."""

    kind = "lora"

    rank: int = option(16, help="Rows of A.", flag="rank", minimum=1, maximum=MAXIMUM_RANK)
    alpha: int = option(32, help="Scale, times the rank.", flag="alpha", minimum=1, maximum=1 << 16)
    linears: tuple[str, ...] = ()

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """A [rank, columns] and B [rows, rank]."""
        return {
            "a": Parameter((self.rank, columns), fan_in=columns),
            "b": Parameter((rows, self.rank)),
        }

    def forward(self, site: Site) -> Any:
        """W·x + B·(alpha / rank · A·x).

        The branch is a Row-16 between A and B, and a Row-24 where it joins W·x.
        """
        base = site.base()
        u = site.linear(site.x, site.trainable("a"), 16)
        scaled = site.call(scale, u, factor=self.alpha / self.rank, bits=16)
        branch = site.linear(scaled, site.trainable("b"), 24)
        return site.call(add, base, branch, bits=site.bits)

    def merge(self, matrices: dict[str, Any]) -> Any:
        """alpha / rank · B·A, float64 [rows, columns]."""
        return matrices["b"] @ matrices["a"] * (self.alpha / self.rank)

    def as_lora(self, matrices: dict[str, Any]) -> tuple[Any, Any]:
        """A [rank, columns] and B [rows, rank] themselves."""
        return matrices["a"], matrices["b"]

    def describe(self) -> str:
        """The settings in a sentence, for people."""
        return f"LoRA, rank {self.rank}, alpha {self.alpha}{self._of_linears(', ')}"
