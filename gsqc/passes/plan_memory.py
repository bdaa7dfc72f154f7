# SPDX-License-Identifier: Apache-2.0
"""plan_memory: one place in the arena for each tensor, so that tensors that live at the same time
do not overlap.

before:  t1 [call 0 … call 3] 64 KiB    t2 [call 4 … call 9] 64 KiB
after:   t1 at 0, t2 at 0
"""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.bundle.plan import align


@dataclass(frozen=True)
class Lifetime:
    """A tensor that is live from call `first` to call `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


def plan_memory(lifetimes: list[Lifetime]) -> tuple[dict[str, int], int]:
    """Byte offsets by name, and the region's size. Largest first, each at the lowest gap that is
    free all its life.

    Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference", greedy by
    size.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for tensor in sorted(lifetimes, key=lambda t: (-t.size_bytes, t.first, t.name)):
        size, start = align(tensor.size_bytes), 0
        for low, high, other in placed:
            if other.first <= tensor.last and tensor.first <= other.last:
                if start + size <= low:
                    break
                start = max(start, high)
        offsets[tensor.name] = start
        placed.append((start, start + size, tensor))
        placed.sort(key=lambda p: p[0])
    return offsets, max((high for _, high, _ in placed), default=0)
