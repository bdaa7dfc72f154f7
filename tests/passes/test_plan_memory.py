# SPDX-License-Identifier: Apache-2.0
"""plan_memory: what lives at the same time does not overlap. What is dead gives its place up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gsqc.passes.plan_memory import Lifetime, plan_memory

lifetime = st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 20))


@given(st.lists(lifetime, max_size=30))
def test_tensors_that_live_together_do_not_overlap(entries: list[tuple[int, int, int]]) -> None:
    tensors = [
        Lifetime(f"t{k}", size, min(a, b), max(a, b)) for k, (size, a, b) in enumerate(entries)
    ]
    offsets, total = plan_memory(tensors)
    for k, x in enumerate(tensors):
        assert offsets[x.name] % 64 == 0
        assert offsets[x.name] + x.size_bytes <= total
        for y in tensors[k + 1 :]:
            apart = x.last < y.first or y.last < x.first
            disjoint = (
                offsets[x.name] + x.size_bytes <= offsets[y.name]
                or offsets[y.name] + y.size_bytes <= offsets[x.name]
            )
            assert apart or disjoint


def test_memory_of_a_dead_tensor_is_used_again() -> None:
    offsets, total = plan_memory([Lifetime("a", 640, 0, 3), Lifetime("b", 640, 4, 9)])
    assert offsets == {"a": 0, "b": 0}
    assert total == 640
