# SPDX-License-Identifier: Apache-2.0
"""Short forms of dotted names that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence


def unique_endings(paths: Sequence[list[str]]) -> list[list[str]]:
    """The shortest ending of each path that no other path has.

    It has no number of a layer. A path that is the ending of another stays whole behind that:
    output.dense beside attention.output.dense.
    """
    endings = []
    for path in paths:
        depth, most = 1, len(_in_layer(path))
        while depth < most and sum(p[-depth:] == path[-depth:] for p in paths) > 1:
            depth += 1
        endings.append(path[-depth:])
    return endings


def _in_layer(path: list[str]) -> list[str]:
    """What is behind the first number of a path, or all of it."""
    number = next((k for k, part in enumerate(path) if part.isdecimal()), -1)
    return path[number + 1 :] or path
