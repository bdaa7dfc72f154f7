# SPDX-License-Identifier: Apache-2.0
"""What a pass requires and ensures is checked: a missing, early or idle pass is an error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gsqc.adapters.lora import Lora
from gsqc.compiler.pipeline import PIPELINE, check_order, run_pipeline
from gsqc.passes import scores
from gsqc.passes.step import Pass
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=32, vocabulary=40
)


def test_the_order_holds() -> None:
    check_order(PIPELINE)


@pytest.mark.parametrize("one", PIPELINE[:-1], ids=lambda one: one.name)
def test_no_pass_can_be_left_out(one: Pass) -> None:
    """Something after it requires what it ensures."""
    rest = tuple(other for other in PIPELINE if other is not one)
    with pytest.raises(AssertionError, match="requires that"):
        check_order(rest)


@pytest.mark.parametrize("one", PIPELINE, ids=lambda one: one.name)
def test_a_pass_that_does_nothing_is_found(one: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, by what it ensures, and not by wrong bits later."""
    monkeypatch.setattr(scores, "SCORES_BYTES", 0)
    idle = replace(one, function=lambda step: step)
    passes = tuple(idle if other is one else other for other in PIPELINE)
    step = toy_step(SIZES, adapter=Lora(2, 4, ("q",)), recompute="blocks", prompt_chunk=2)
    with pytest.raises(AssertionError, match="after <lambda>, "):
        run_pipeline(step, passes)
