# SPDX-License-Identifier: Apache-2.0
"""dropbp: in each step, the backward pass of some blocks is left out by chance.

before:  block_backward runs for every block
after:   choose_blocks(step number) -> kept_blocks, which runs before the forward pass
         block_backward, the forward that runs again before it, and the updates of a block run
         only if kept_blocks says so. The gradient of the stream passes by a block that is left out

The forward pass is whole, so losses keep every bit at a given state. Woo et al. 2024, "DropBP:
Accelerating Fine-Tuning of Large Language Models by Dropping Backward Propagation", arXiv
2402.17812. One rate holds for all blocks, and a block is dropped as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gsqc.decimals import as_fraction, plain_number
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.kept_blocks import kept_blocks
from gsqc.numerics.optim.optimizer import STEP_NUMBER
from gsqc.option import option
from gsqc.passes.optional.optional_pass import OptionalPass

if TYPE_CHECKING:
    from gsqc.passes.step import Pass, Step

CHOOSER, KEPT = "choose_blocks", "kept_blocks"
"""The function that chooses, and its result."""


@dataclass(frozen=True)
class DropBP(OptionalPass):
    """The rate at which the backward pass of a block is left out."""

    kind: ClassVar[str] = "dropbp"
    after: ClassVar[str] = "add_clipping"
    of_backward: ClassVar[bool] = True
    rate: str | float = option(
        "0.5", help="The chance that a step leaves a block's backward pass out.", maximum=1
    )

    def __post_init__(self) -> None:
        """One spelling of the rate, as the bundle records it."""
        object.__setattr__(self, "rate", plain_number(self.rate))

    def problems(self) -> list[str]:
        """A sentence for each setting that is out of range."""
        found = super().problems()
        if not found and as_fraction(self.rate, "rate", 1) == 1:
            found.append(f"--pass {self} trains nothing, its rate must be below 1")
        return found

    def graph_pass(self) -> Pass:
        """The pass that adds the function that chooses."""
        from gsqc.passes.properties import BACKWARD_CHOSEN, CLIPPING_ADDED
        from gsqc.passes.step import graph_pass

        @graph_pass(requires=(CLIPPING_ADDED,), ensures=(BACKWARD_CHOSEN,))
        def dropbp(step: Step) -> Step:
            return self._add(step)

        return dropbp

    def _add(self, step: Step) -> Step:
        from gsqc.graph.function import Function, add_call, add_placeholder
        from gsqc.passes.step import Choice

        function = Function(CHOOSER)
        scalar, role = Spec((1, 1), "int32"), Role(Kind.INPUT, STEP_NUMBER)
        number = add_placeholder(function.graph, STEP_NUMBER, scalar, role)
        # A random number has 31 bits. Rounded down, the threshold stays below 2^31.
        threshold = int(as_fraction(self.rate, "rate", 1) * 2**31)
        kept = add_call(
            function.graph,
            kept_blocks,
            number,
            seed=step.options.seed,
            threshold=threshold,
            blocks=step.parts.layers,
        )
        function.set_outputs({KEPT: (kept, Role(Kind.OUTPUT, KEPT))})
        step.add(function)
        step.choice = Choice(CHOOSER, KEPT)
        return step
