# SPDX-License-Identifier: Apache-2.0
"""lora: y = W·x + alpha / rank · B·A·x.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. A [rank, k]
begins uniform in ±1/√k, as in PEFT, and B [n, rank] with zeros. So the output of the first step is
that of the base.

With train=b only B is trained, and A stays what it begins as. Zhang et al. 2023, "LoRA-FA:
Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsqc.adapters.adapter import Adapter, LoraForm, LoraPlace, Parameter, Site
from gsqc.limits import MAXIMUM_RANK
from gsqc.numerics.ops.add import add, scale
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.option import option


@dataclass(frozen=True)
class Lora(Adapter):
    """The settings of a LoRA adapter."""

    kind = "lora"
    summary = "y = W·x + alpha / rank · B·A·x"
    source = "LoRA, Hu et al. 2021, arXiv 2106.09685; train=b: LoRA-FA, arXiv 2308.03303"
    is_default = True

    rank: int = option(16, help="Rows of A.", flag="rank", minimum=1, maximum=MAXIMUM_RANK)
    alpha: int = option(32, help="Scale, times the rank.", flag="alpha", minimum=1, maximum=1 << 16)
    linears: tuple[str, ...] = ()
    train: str = option("ab", help="What is trained.", flag="train", choices=("ab", "b"))

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """A [rank, columns] and B [rows, rank]."""
        a = {"a": Parameter((self.rank, columns), fan_in=columns)} if self.train == "ab" else {}
        return a | {"b": Parameter((rows, self.rank))}

    def arrays(self, w: Any, seed: int, stream: int) -> dict[str, Any]:
        """A as it begins, if it is not trained."""
        if self.train == "ab":
            return {}
        columns = w.shape[1]
        return {"a": uniform_q24(seed, stream, (self.rank, columns), columns)}

    def forward(self, site: Site) -> Any:
        """W·x + B·(alpha / rank · A·x).

        The branch is a Row-16 between A and B, and a Row-24 where it joins W·x.
        """
        base = site.base()
        is_trained = self.train == "ab"
        a = site.trainable("a") if is_trained else site.call(master_row, site.array("a"))
        u = site.linear(site.x, a, 16)
        scaled = site.call(scale, u, factor=self.alpha / self.rank, bits=16)
        branch = site.linear(scaled, site.trainable("b"), 24)
        return site.call(add, base, branch, bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """W + alpha / rank · B·A."""
        form = self.as_lora(matrices, arrays)
        return w + form.b @ form.a * (self.alpha / self.rank)

    def as_lora(self, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoraForm:
        """A and B themselves."""
        is_trained = self.train == "ab"
        a = matrices["a"] if is_trained else arrays["a"].reshape(self.rank, -1) * 2.0**-24
        return LoraForm(a, matrices["b"], self.alpha)

    def lora_place(self) -> LoraPlace | None:
        """A and B, if both are trained."""
        return LoraPlace("a", "b", self.rank, self.alpha) if self.train == "ab" else None

    def describe(self) -> str:
        """The settings in a sentence, for people."""
        only = [] if self.train == "ab" else ["only B trained"]
        numbers = [f"LoRA, rank {self.rank}, alpha {self.alpha}"]
        return ", ".join([*numbers, *only, *self._of_linears("")])
