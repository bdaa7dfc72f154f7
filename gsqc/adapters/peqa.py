# SPDX-License-Identifier: Apache-2.0
"""peqa: y = (1 + s) ⊙ (W·x), a scale for each output.

Kim et al. 2023, "Memory-Efficient Fine-Tuning of Compressed Large Language Models via sub-4-bit
Integer Quantization", section 3.2, with a scale per channel. The paper trains the scales of the
codes; here s [1, n] is what they are multiplied by, less 1, so that the codes stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsqc.adapters.adapter import Adapter, Parameter, PeftForm, Site
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.multiply import multiply


@dataclass(frozen=True)
class Peqa(Adapter):
    """The settings of a PEQA adapter: it has none."""

    kind = "peqa"
    summary = "y = (1 + s) ⊙ W·x, a scale for each output"
    source = "PEQA, Kim et al. 2023, arXiv 2305.14152"
    peft_type = "IA3"

    linears: tuple[str, ...] = ()

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """s [1, rows]."""
        return {"s": Parameter((1, rows))}

    def forward(self, site: Site) -> Any:
        """W·x + s ⊙ W·x."""
        y = site.base()
        change = site.call(multiply, y, site.trainable("s"), bits=24)
        return site.call(add, y, change, bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """(1 + s) ⊙ W, by rows."""
        return w * (1.0 + matrices["s"].T)

    def to_peft(self, matrices: Mapping[str, Any]) -> PeftForm:
        """IA3, which multiplies outputs by l = 1 + s."""
        settings = {"feedforward_modules": [], "init_ia3_weights": True}
        return PeftForm(settings, {"ia3_l": 1.0 + matrices["s"].T}, of_bias=True)

    def from_peft(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """s = l - 1."""
        return {"s": tensors["ia3_l"].T - 1.0}
