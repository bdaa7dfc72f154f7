# SPDX-License-Identifier: Apache-2.0
"""miss: y = W·x + M·(the sum of the pieces of x), for pieces of `rank` inputs.

Kang and Yin 2024, "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing
Structure" (Bone in its first version), section 3. All blocks of columns of W get the same change
M [n, rank]. PEFT's MISS is this by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsqc.adapters.adapter import Adapter, Parameter, PeftForm, Site
from gsqc.limits import MAXIMUM_RANK
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.pieces import sum_pieces
from gsqc.option import option


@dataclass(frozen=True)
class Miss(Adapter):
    """The settings of a MiSS adapter."""

    kind = "miss"
    summary = "all blocks of columns of W get the same change"
    source = "MiSS (Bone), Kang and Yin 2024, arXiv 2409.15371"
    peft_type = "MISS"

    rank: int = option(64, help="Columns of a block.", flag="rank", minimum=1, maximum=MAXIMUM_RANK)
    linears: tuple[str, ...] = ()

    def unfit(self, rows: int, columns: int) -> str:
        """Blocks are whole."""
        return "" if columns % self.rank == 0 else f"which blocks of {self.rank} do not fill"

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """M [rows, rank]."""
        return {"m": Parameter((rows, self.rank))}

    def forward(self, site: Site) -> Any:
        """W·x + M·Σ pieces of x."""
        pieces = site.shape[1] // self.rank
        total = site.call(sum_pieces, site.x, pieces=pieces, bits=16)
        branch = site.linear(total, site.trainable("m"), 24)
        return site.call(add, site.base(), branch, bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """W + M beside itself."""
        return w + np.tile(matrices["m"], (1, w.shape[1] // self.rank))

    def to_peft(self, matrices: Mapping[str, Any]) -> PeftForm:
        """MISS, whose block is the transpose of M."""
        settings = {"r": self.rank, "init_weights": True, "bias": "none"}
        return PeftForm(settings, {"miss_block": matrices["m"].T})

    def from_peft(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """M is the transpose of the block."""
        return {"m": tensors["miss_block"].T}
