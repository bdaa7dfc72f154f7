# SPDX-License-Identifier: Apache-2.0
"""road: pairs (u, v) of the outputs of W·x are turned and scaled.

(u, v) -> ((1 + c)·u - s·v, (1 + c)·v + s·u)

Liao and Monz 2024, "3-in-1: 2D Rotary Adaptation for Efficient Finetuning, Efficient Batching and
Composability", section 3.1, with one rotation for a pair (RoAd_1). There 1 + c = α·cos θ and
s = α·sin θ. c and s are trained instead of α and θ: the same functions, and no cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsqc.adapters.adapter import Adapter, Parameter, PeftForm, Site
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.multiply import multiply
from gsqc.numerics.ops.pairs import both_of_pairs, turn_pairs
from gsqc.option import option


@dataclass(frozen=True)
class Road(Adapter):
    """The settings of a RoAd adapter."""

    kind = "road"
    summary = "pairs of the outputs of W·x are turned and scaled"
    source = "RoAd, Liao and Monz 2024, arXiv 2409.00119"
    peft_type = "ROAD"

    group: int = option(
        64, help="Outputs of a group: its halves form pairs.", flag="group", minimum=2, maximum=4096
    )
    linears: tuple[str, ...] = ()

    def unfit(self, rows: int, columns: int) -> str:
        """Groups are whole, and of an even size."""
        if self.group % 2:
            return f"and groups of {self.group} have no halves"
        return "" if rows % self.group == 0 else f"which groups of {self.group} outputs do not fill"

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """c and s [1, rows / 2]."""
        return {name: Parameter((1, rows // 2)) for name in "cs"}

    def forward(self, site: Site) -> Any:
        """y + (c ⊙ y + s ⊙ turned y) for y = W·x."""
        y = site.base()
        turned = site.call(turn_pairs, y, group=self.group, back=False)
        changes = [
            site.call(
                multiply,
                part,
                site.call(both_of_pairs, site.trainable(name), group=self.group),
                bits=24,
            )
            for name, part in (("c", y), ("s", turned))
        ]
        return site.call(add, y, site.call(add, *changes, bits=24), bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """The rows of W in pairs, turned and scaled."""
        half = self.group // 2
        u, v = (w.reshape(-1, 2, half, w.shape[1])[:, k] for k in (0, 1))
        c, s = (matrices[name].reshape(-1, half, 1) for name in "cs")
        return np.stack([(1.0 + c) * u - s * v, (1.0 + c) * v + s * u], axis=1).reshape(w.shape)

    def to_peft(self, matrices: Mapping[str, Any]) -> PeftForm:
        """ROAD with one rotation for a pair: angles and scales."""
        c, s = (np.asarray(matrices[name], np.float64).reshape(-1) for name in "cs")
        tensors = {"road_theta": np.arctan2(s, 1.0 + c), "road_alpha": np.hypot(s, 1.0 + c)}
        settings = {"variant": "road_1", "group_size": self.group, "init_weights": True}
        return PeftForm(settings, tensors, of_bias=True)

    def from_peft(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """c and s from the angles and the scales."""
        theta, alpha = (tensors[f"road_{name}"].reshape(1, -1) for name in ("theta", "alpha"))
        return {"c": alpha * np.cos(theta) - 1.0, "s": alpha * np.sin(theta)}
