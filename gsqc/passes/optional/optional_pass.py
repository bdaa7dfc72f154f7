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

    @abstractmethod
    def graph_pass(self) -> Pass:
        """The pass with these settings."""
