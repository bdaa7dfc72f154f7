# SPDX-License-Identifier: Apache-2.0
"""build_schedules: calls of blocks of several kinds, whose activations have several sizes."""

from __future__ import annotations

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.plan_checks import check_plan
from gsqc.compiler.pipeline import run_pipeline
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=4, heads=2, kv_heads=1, head_dim=16, ffn=32, vocabulary=40, kinds=2
)


@pytest.mark.parametrize("recompute", ["none", "blocks"])
def test_kinds_of_blocks_do_not_share_activations(recompute: str) -> None:
    """Saved values and gradients of one name are tensors of two sizes in layers of two kinds."""
    step = toy_step(SIZES, adapter=Lora(2, 4, ("down",)), recompute=recompute, prompt_chunk=1)
    check_plan(run_pipeline(step).plan)
