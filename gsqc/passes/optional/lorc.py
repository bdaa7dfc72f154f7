# SPDX-License-Identifier: Apache-2.0
"""lorc: each linear gets back, in low rank, what storing its weight in 4 bits has lost.

U·V is the best product of its rank for E = W - Q(W), the weight less what its codes mean. U [n,
rank] and V [rank, k] are frozen and lie in the bundle beside the codes, in 16 bits. An adapter
begins on top of W·x + U·V·x, nearer to the model in floats. gsqc/passes/correct_linears.py is what
becomes of a linear.

Low-Rank Compensation: Yao et al. 2023, "ZeroQuant-V2: Exploring Post-training Quantization in LLMs
from Comprehensive Study to Low Rank Compensation", arXiv 2303.08302, section 5. There U and V have
8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gsqc.bundle.base import FILE_CODES
from gsqc.limits import MAXIMUM_RANK
from gsqc.option import option
from gsqc.passes.optional.optional_pass import OptionalPass

if TYPE_CHECKING:
    from gsqc.passes.step import Pass


@dataclass(frozen=True)
class Lorc(OptionalPass):
    """The rank of the correction."""

    kind: ClassVar[str] = "lorc"
    after: ClassVar[str] = "add_adapters"
    rank: int = option(8, help="Columns of U and rows of V.", minimum=1, maximum=MAXIMUM_RANK)

    def unfit(self, base: str) -> str:
        """Codes of the file itself have lost nothing."""
        return "corrects nothing, for the codes are the file's own" if base == FILE_CODES else ""

    def graph_pass(self) -> Pass:
        """The pass that adds the products."""
        from gsqc.passes.correct_linears import correct_linears

        return correct_linears(self.rank)
