# SPDX-License-Identifier: Apache-2.0
"""The widths of a compilation, and the text that `--bits` takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gsqc.errors import OptionError
from gsqc.option import check_options, option


@dataclass(frozen=True)
class Bits:
    """Widths: `w` of the stored base (4 or 8), `a` of activations and adapter factors, `g` of
    gradients, `base_operands` of the base in products. Without the last it is that of `a`.
    """

    w: int = option(help="Bits of the base.", flag="W of --bits", minimum=4, maximum=8)
    a: int = option(help="Bits of activations.", flag="A of --bits", minimum=5, maximum=8)
    g: int = option(help="Bits of gradients.", flag="G of --bits", minimum=5, maximum=8)
    base_operands: int | None = option(
        None, help="Bits of the base in products.", flag=":wN of --bits", minimum=4, maximum=8
    )

    def __post_init__(self) -> None:
        """Check the widths. What `a` says already is not kept twice: equal bits have one text."""
        check_options(self)
        if self.base_operands == self.a:
            object.__setattr__(self, "base_operands", None)

    def __str__(self) -> str:
        """As `parse` reads it."""
        text = f"{self.w}-{self.a}-{self.g}"
        return text if self.base_operands is None else f"{text}:w{self.base_operands}"

    @property
    def base(self) -> int:
        """The width of the base in products."""
        return self.a if self.base_operands is None else self.base_operands

    @staticmethod
    def parse(text: str) -> Bits:
        """Read "4-8-8" or "4-5-5:w8". Raises OptionError."""
        numbers = re.fullmatch(r"([48])-([5-8])-([5-8])(?::w([4-8]))?", text)
        if numbers is None:
            raise OptionError(
                f"--bits {text} is not W-A-G or W-A-G:wN",
                "W is 4 or 8, A and G are 5 to 8, N is 4 to 8: --bits 4-8-8, --bits 4-5-5:w8",
            )
        w, a, g, base = (None if n is None else int(n) for n in numbers.groups())
        assert w is not None and a is not None and g is not None
        return Bits(w, a, g, base)
