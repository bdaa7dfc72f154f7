# SPDX-License-Identifier: Apache-2.0
"""paca: some columns of W are trained, y = W·x + alpha / rank · D·x[columns].

Woo et al. 2025, "PaCA: Partial Connection Adaptation for Efficient Fine-Tuning", section 3. D
[n, rank] is what the columns have moved by. They are drawn by the seed, others for each linear of
each layer. The paper changes them in W; here W keeps its codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsqc.adapters.adapter import Adapter, LoraForm, Parameter, Site
from gsqc.limits import MAXIMUM_RANK
from gsqc.numerics.ops.add import add, scale
from gsqc.numerics.ops.noise import uniform_q24
from gsqc.numerics.ops.some_columns import places_of, take_columns
from gsqc.option import option


@dataclass(frozen=True)
class Paca(Adapter):
    """The settings of a PaCA adapter."""

    kind = "paca"
    summary = "some columns of W are trained"
    source = "PaCA, Woo et al. 2025, arXiv 2503.01905"

    rank: int = option(
        16, help="Columns of W that are trained.", flag="rank", minimum=1, maximum=MAXIMUM_RANK
    )
    alpha: int = option(32, help="Scale, times the rank.", flag="alpha", minimum=1, maximum=1 << 16)
    linears: tuple[str, ...] = ()

    def unfit(self, rows: int, columns: int) -> str:
        """There are as many columns."""
        return "" if self.rank <= columns else f"fewer than rank={self.rank} inputs"

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """D [rows, rank]."""
        return {"d": Parameter((rows, self.rank))}

    def arrays(self, w: Any, seed: int, stream: int) -> dict[str, Any]:
        """The columns in ascending order, int32 [rank], and the place of each input among them."""
        columns = w.shape[1]
        order = np.argsort(uniform_q24(seed, stream, (columns,), 1), kind="stable")
        index = np.sort(order[: self.rank]).astype(np.int32)
        return {"index": index, "places": places_of(index, columns)}

    def forward(self, site: Site) -> Any:
        """W·x + D·(alpha / rank · x[columns])."""
        some = site.call(take_columns, site.x, site.array("index"), site.array("places"))
        some = site.call(scale, some, factor=self.alpha / self.rank, bits=16)
        branch = site.linear(some, site.trainable("d"), 24)
        return site.call(add, site.base(), branch, bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """W with D added to the columns."""
        form = self.as_lora(matrices, arrays)
        return w + form.b @ form.a * (self.alpha / self.rank)

    def as_lora(self, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoraForm:
        """A takes the columns: it has a single 1 in each row."""
        a = (arrays["places"] == np.arange(self.rank)[:, None]).astype(np.float64)
        return LoraForm(a, matrices["d"], self.alpha)
