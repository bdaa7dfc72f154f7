# SPDX-License-Identifier: Apache-2.0
"""What people read of the base: in which formats its weights are stored, and what that cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gsqc.names import unique_endings

VECTOR_KIND = "row16"
"""The codes of norms and other vectors, which are 16 bits in every bundle."""
FILE_CODES = "gguf"
"""The value of --base that keeps the codes of a GGUF file."""
LOSS_UNIT = 1_000_000
"""A bundle notes losses in millionths."""
Losses = Mapping[str, int] | None


def in_layer(first: str, layer: int) -> str:
    """The name in a layer of a weight that is named in the first one."""
    return re.sub(r"\.0\.", f".{layer}.", first, count=1)


def in_first_layer(name: str) -> str:
    """The name in the first layer of a weight of any layer."""
    return re.sub(r"\.\d+\.", ".0.", name, count=1)


def losses_of(first: str, losses: Losses) -> list[float] | None:
    """What each layer's weight lost, as a share, for a weight that is named in the first layer."""
    if losses is None:
        return None
    return [loss / LOSS_UNIT for name, loss in losses.items() if in_first_layer(name) == first]


def loss_text(base: str, shares: list[float] | None) -> str:
    """Such as `as in the file`, or `0.8% lost`: RMS of the difference over RMS of the weight."""
    if shares is None:
        return "loss not noted"
    if not shares:
        return "as in the file" if base == FILE_CODES else "exact"
    least, most = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return f"{most} lost" if least == most else f"{least} to {most} lost"


def base_lines(base: str, kinds: Mapping[str, str], losses: Losses) -> Iterator[str]:
    """For each format: which of a layer's weights have it, and what they lost.

    kinds   the format of each weight of the first layer, by its name
    losses  what weights lost, in millionths, by their names in every layer
    """
    for kind in dict.fromkeys(kinds.values()):
        if kind == VECTOR_KIND:
            continue
        names = [name for name, k in kinds.items() if k == kind]
        endings = unique_endings([name.removesuffix(".weight").split(".") for name in names])
        short = ", ".join(map(".".join, endings))
        found = [losses_of(name, losses) for name in names]
        shares = None if losses is None else [share for part in found for share in part or ()]
        yield f"{kind}: {short} ({loss_text(base, shares)})"
