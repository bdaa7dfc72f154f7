# SPDX-License-Identifier: Apache-2.0
"""plan_memory: a place in the arena for each tensor. Tensors that live at the same time never
overlap, others may share bytes.

before:  t1 [call 0 … call 3] 64 KiB    t2 [call 4 … call 9] 64 KiB
after:   t1 at 0, t2 at 0

It places the scratch of a function (lower_functions) and the activations of a schedule (bindings).
Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference", greedy by size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gsqc.bundle.plan import align


@dataclass(frozen=True)
class Lifetime:
    """A tensor that is live from call `first` to call `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


def lifetimes(sizes: Mapping[str, int], calls: Iterable[Iterable[str]]) -> list[Lifetime]:
    """The lifetimes of the tensors with these sizes, from the names that each call uses.

    They stand in the order of first use.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for k, names in enumerate(calls):
        for name in names:
            first.setdefault(name, k)
            last[name] = k
    return [Lifetime(n, sizes[n], first[n], last[n]) for n in first if n in sizes]


def plan_memory(tensors: list[Lifetime]) -> tuple[dict[str, int], int]:
    """Byte offsets by name, and the region's size. Largest first, each at the lowest gap that is
    free all its life.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    # The name decides last, so that the plan depends on the tensors alone and not on their order.
    for tensor in sorted(tensors, key=lambda t: (-t.size_bytes, t.first, t.name)):
        size, start = align(tensor.size_bytes), 0
        # `placed` is sorted by address: the first gap that is large enough is the lowest.
        for low, high, other in placed:
            if other.first <= tensor.last and tensor.first <= other.last:
                if start + size <= low:
                    break
                start = max(start, high)
        offsets[tensor.name] = start
        placed.append((start, start + size, tensor))
        placed.sort(key=lambda p: p[0])
    return offsets, max((high for _, high, _ in placed), default=0)
