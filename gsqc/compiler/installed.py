# SPDX-License-Identifier: Apache-2.0
"""What to say where the compiler's own packages are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gsqc.errors import OptionError


@contextmanager
def needs_compiler(what: str = "the compiler") -> Iterator[None]:
    """Around the import of what needs torch or TVM. OptionError if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{what} is not installed ({error.name})", "pip install 'gsqc[compiler]'"
        ) from None
