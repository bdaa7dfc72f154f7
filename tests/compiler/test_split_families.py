# SPDX-License-Identifier: Apache-2.0
"""Attention with a number for each head has the same bits, made part by part or as a whole."""

from __future__ import annotations

import pytest

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.passes import scores
from tests.compiler.test_families import Family, lower, lowered
from tests.toy_training import open_executor


def softmaxes(family: Family) -> int:
    functions = family.step.functions.values()
    return sum(scores.is_training_softmax(n) for f in functions for n in f.calls())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bloom", "gpt_oss"])
def test_parts_of_the_heads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lowered(name)
    monkeypatch.setattr(scores, "SCORES_BYTES", 1024)
    split = lower(build(BY_NAME[name]))
    assert softmaxes(split) > softmaxes(whole)
    (first, _), (second, _) = open_executor(whole), open_executor(split)
    for executor in (first, second):
        executor.run("gradient")
    sums = [n for n in first.tensors if "_grad_" in n]
    assert sums
    for tensor in ("loss", *sums):
        assert (first.tensors[tensor] == second.tensors[tensor]).all(), tensor
