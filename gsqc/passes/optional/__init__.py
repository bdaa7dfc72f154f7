# SPDX-License-Identifier: Apache-2.0
"""Optional passes: a file of this folder for each. `parse_pass` reads what `--pass` takes.

The settings import no torch. A pass does so when it runs.
"""

from __future__ import annotations

from functools import cache

from gsqc.named import kinds_of, parse_named
from gsqc.passes.optional.optional_pass import OptionalPass


@cache
def pass_kinds() -> dict[str, type[OptionalPass]]:
    """The class of each optional pass by its name."""
    return kinds_of(__name__, __path__, OptionalPass)


def parse_pass(text: str) -> OptionalPass:
    """The pass of a text such as "dropbp:rate=0.5". Settings that are left out have their defaults.

    Raises OptionError, which names every problem.
    """
    return parse_named("--pass", pass_kinds(), text)
