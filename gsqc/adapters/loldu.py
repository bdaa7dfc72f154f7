# SPDX-License-Identifier: Apache-2.0
"""loldu: W = P·L·D·U, and the diagonal D is trained: y = W·x + alpha / rank · P·L·diag(z)·U·x.

Shi et al. 2024, "LoLDU: Low-Rank Adaptation via Lower-Diag-Upper Decomposition for Parameter-
Efficient Fine-Tuning", section 3. L and U are the first `rank` columns and rows of the factors,
stored in 16 bits and frozen. z [1, rank] is what the diagonal has moved by, so that the first
step's output is that of the base. The paper's trainable factor of the branch is left out: alpha
stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.adapters.adapter import Adapter, LoraForm, Parameter, Site
from gsqc.limits import MAXIMUM_RANK
from gsqc.models.codes import encode_row16, row16_floats
from gsqc.numerics.ops.add import add, scale
from gsqc.numerics.ops.dequantise import dequantise_row16
from gsqc.numerics.ops.multiply import multiply
from gsqc.option import option

Float64 = npt.NDArray[np.float64]


def factors(w: npt.NDArray[Any], rank: int) -> tuple[Float64, Float64]:
    """P·L [n, rank] and U [rank, k] of W [n, k], both with unit diagonals, by elimination with row
    pivots. Columns behind the rank of W are those of a matrix of zeros.
    """
    left = np.array(w, np.float64)
    rows, columns = left.shape
    lower, upper = np.zeros((rows, rank)), np.eye(rank, columns)
    is_used = np.zeros(rows, bool)
    for j in range(rank):
        # Of equal numbers the first row is the pivot: then all machines choose the same.
        pivot = int(np.argmax(np.where(is_used, -1.0, np.abs(left[:, j]))))
        is_used[pivot] = True
        lower[pivot, j] = 1.0
        if left[pivot, j]:
            upper[j, j:] = left[pivot, j:] / left[pivot, j]
            below = np.where(is_used, 0.0, left[:, j])
            lower[:, j] += below / left[pivot, j]
            left -= np.outer(below, upper[j])
    return lower, upper


@dataclass(frozen=True)
class Loldu(Adapter):
    """The settings of a LoLDU adapter."""

    kind = "loldu"
    summary = "the diagonal of W = P·L·D·U is trained"
    source = "LoLDU, Shi et al. 2024, arXiv 2410.13618"

    rank: int = option(
        64, help="Numbers of the diagonal.", flag="rank", minimum=1, maximum=MAXIMUM_RANK
    )
    alpha: int = option(64, help="Scale, times the rank.", flag="alpha", minimum=1, maximum=1 << 16)
    linears: tuple[str, ...] = ()

    def unfit(self, rows: int, columns: int) -> str:
        """The diagonal is no longer than W allows."""
        fits = self.rank <= min(rows, columns)
        return "" if fits else f"whose diagonal is shorter than rank={self.rank}"

    def parameters(self, rows: int, columns: int) -> dict[str, Parameter]:
        """z [1, rank]."""
        return {"z": Parameter((1, self.rank))}

    def arrays(self, w: Any, seed: int, stream: int) -> dict[str, Any]:
        """P·L and U in 16 bits: mantissas, and exponents of their rows."""
        codes = {name: encode_row16(m) for name, m in zip("lu", factors(w, self.rank), strict=True)}
        return {f"{name}_{key}": a for name, c in codes.items() for key, a in c.arrays.items()}

    def forward(self, site: Site) -> Any:
        """W·x + P·L·(alpha / rank · z ⊙ U·x)."""
        lower, upper = (
            site.call(
                dequantise_row16,
                site.array(f"{name}_codes"),
                site.array(f"{name}_exponents"),
                columns=columns,
            )
            for name, columns in (("l", self.rank), ("u", site.shape[1]))
        )
        u = site.linear(site.x, upper, 16)
        moved = site.call(multiply, u, site.trainable("z"), bits=16)
        scaled = site.call(scale, moved, factor=self.alpha / self.rank, bits=16)
        branch = site.linear(scaled, lower, 24)
        return site.call(add, site.base(), branch, bits=site.bits)

    def merge(self, w: Any, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
        """W + alpha / rank · P·L·diag(z)·U."""
        form = self.as_lora(matrices, arrays)
        return w + form.b @ form.a * (self.alpha / self.rank)

    def as_lora(self, matrices: Mapping[str, Any], arrays: Mapping[str, Any]) -> LoraForm:
        """A = U, and B = P·L·diag(z)."""
        lower, upper = (
            row16_floats(arrays[f"{name}_codes"], arrays[f"{name}_exponents"]) for name in "lu"
        )
        return LoraForm(upper, lower * matrices["z"], self.alpha)
