# SPDX-License-Identifier: Apache-2.0
"""What an optional pass is: settings, its place among the passes, and what it does to a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from gsqc.option import Option, options_of, problems_of

if TYPE_CHECKING:
    from gsqc.passes.step import Pass


class OptionalPass(ABC):
    """The settings of an optional pass: a frozen dataclass of options."""

    kind: ClassVar[str]
    """Its name in `--pass`."""
    after: ClassVar[str]
    """The pass of the pipeline that it follows."""

    @classmethod
    def settings(cls) -> tuple[Option, ...]:
        """The options that `--pass` takes behind the name."""
        return options_of(cls)

    def problems(self) -> list[str]:
        """A sentence for each setting that is out of range."""
        return problems_of(type(self), vars(self))

    def __str__(self) -> str:
        values = ",".join(f"{o.name}={getattr(self, o.name)}" for o in self.settings())
        return f"{self.kind}:{values}" if values else self.kind

    @abstractmethod
    def graph_pass(self) -> Pass:
        """The pass with these settings."""
