# SPDX-License-Identifier: Apache-2.0
"""What to say where the harness is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gsqc.errors import OptionError


@contextmanager
def needs_harness() -> Iterator[None]:
    """Around the import of what needs lm-eval. OptionError if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            f"lm-evaluation-harness is not installed ({error.name})", "pip install 'gsqc[lm-eval]'"
        ) from None
