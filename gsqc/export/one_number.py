# SPDX-License-Identifier: Apache-2.0
"""require_one: refuses adapters of several ranks or alphas where a file has room for one."""

from __future__ import annotations

from collections.abc import Iterable

from gsqc.errors import ExportError


def require_one(values: Iterable[int], what: str, program: str) -> int:
    """The number that all linears have. ExportError if a program's file cannot say several."""
    found = sorted(set(values))
    if len(found) > 1:
        raise ExportError(
            f"the adapters have the {what} {' and '.join(map(str, found))}, and {program} has one "
            "for all linears",
            "export with --peft, or the merged model with --merged",
        )
    return found[0]
