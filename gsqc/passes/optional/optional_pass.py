# SPDX-License-Identifier: Apache-2.0
"""What an optional pass is: settings, its place among the passes, and what it does to a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from gsqc.named import Named

if TYPE_CHECKING:
    from gsqc.passes.step import Pass


class OptionalPass(Named, ABC):
    """The settings of an optional pass: a frozen dataclass of options."""

    after: ClassVar[str]
    """The pass of the pipeline that it follows."""
    of_backward: ClassVar[bool] = False
    """Whether it changes the backward pass, so that there must be one."""

    def unfit(self, base: str) -> str:
        """Why it is of no use for a value of --base: the end of a sentence, or nothing."""
        return ""

    @abstractmethod
    def graph_pass(self) -> Pass:
        """The pass with these settings."""
