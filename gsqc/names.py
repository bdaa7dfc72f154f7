# SPDX-License-Identifier: Apache-2.0
"""Short forms of dotted names that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence


def unique_endings(paths: Sequence[list[str]]) -> list[list[str]]:
    """The shortest ending of each path that no other path has."""
    endings = []
    for path in paths:
        depth = 1
        while depth < len(path) and sum(p[-depth:] == path[-depth:] for p in paths) > 1:
            depth += 1
        endings.append(path[-depth:])
    return endings
