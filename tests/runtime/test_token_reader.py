# SPDX-License-Identifier: Apache-2.0
"""A prompt read in chunks gives the same caches and logits as one token after the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest

from gsqc.runtime.token_reader import TokenReader
from tests.toy import Toy, build_toy
from tests.toy_graph import Sizes
from tests.toy_training import open_executor

CHUNK, TOKENS = 5, 40


@pytest.fixture(scope="module")
def toy() -> Toy:
    """A bundle of 40 tokens, so that values have a group of 32 and a ragged one.

    Chunks of 5 cross from one group to the other.
    """
    return build_toy(sizes=Sizes(tokens=TOKENS, layers=1), prompt_chunk=CHUNK)


def read(toy: Toy, parts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """The caches and logits after a text that is read in parts."""
    executor, _ = open_executor(toy)
    reader = TokenReader(executor, toy.step.plan)
    assert reader.most == CHUNK
    reader.start()
    for part in parts:
        reader.read(part)
    assert reader.position == sum(map(len, parts))
    names = [
        n for n in executor.tensors if n.endswith((".m", ".e")) and ("keys" in n or "values" in n)
    ]
    assert names
    return {n: executor.tensors[n] for n in [*names, "logits_0.m", "logits_0.e"]}


TEXT = [int(t) for t in np.random.default_rng(5).integers(0, 300, TOKENS)]


@pytest.mark.parametrize("count", [2, 5, 34, 40])
def test_chunks_are_tokens_one_after_the_other(toy: Toy, count: int) -> None:
    """Less than a chunk, one chunk, a length across a group's border, and the whole window."""
    expected = read(toy, [[t] for t in TEXT[:count]])
    for name, got in read(toy, [TEXT[:count]]).items():
        np.testing.assert_array_equal(got, expected[name], err_msg=name)


def test_any_parts_are_the_same(toy: Toy) -> None:
    expected = read(toy, [TEXT[:17]])
    for parts in ([TEXT[:3], TEXT[3:4], TEXT[4:17]], [TEXT[:1], TEXT[1:15], TEXT[15:17]]):
        for name, got in read(toy, parts).items():
            np.testing.assert_array_equal(got, expected[name], err_msg=name)


def test_a_plan_without_prefill_reads_one_by_one(toy: Toy) -> None:
    expected = read(toy, [TEXT[:9]])
    executor, _ = open_executor(toy)
    plan = copy.copy(toy.step.plan)
    plan.schedules = {name: s for name, s in plan.schedules.items() if name != "prefill"}
    reader = TokenReader(executor, plan)
    reader.start()
    (logits,) = reader.read(TEXT[:9])
    np.testing.assert_array_equal(logits[0], expected["logits_0.m"])
    assert logits[1] == expected["logits_0.e"][0]
